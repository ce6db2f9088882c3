"""What a ControlNet would see of a picture, to look at before anything is drawn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Response

from brushwork.serve.controls import MapRequest, draw_map

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine


def make_router(engine: Engine) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.post("/api/v1/controlnets/map", tags=["images"], response_class=Response, responses=PNG)
    async def shown(asked: MapRequest) -> Response:
        """Return the map of a picture as a ControlNet sees it, in PNG; nothing is kept."""
        path = engine.store.picture(asked.image)
        if path is None:
            raise HTTPException(404, "there is no such picture")
        made = await asyncio.to_thread(draw_map, asked, engine.config.limits, path)
        return Response(made, media_type="image/png")

    return router


PNG: dict[int | str, dict[str, object]] = {200: {"content": {"image/png": {}}}}
