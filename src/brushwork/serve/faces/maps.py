"""The ControlNets, and what one would see of a picture, to look at before anything is drawn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, HTTPException, Response

from brushwork.controlnet import maps
from brushwork.serve.controls import MapRequest, draw_map

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/api/v1/controlnets", tags=["catalogue"])
    async def controlnets() -> dict[str, Any]:
        """Return the ControlNets that a job can name, and the ways to make a map of a picture."""
        known = [{"name": each.name, "detail": each.detail} for each in engine.catalogue.all("controlnet")]
        return {"controlnets": known, "modules": maps.available()}

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
