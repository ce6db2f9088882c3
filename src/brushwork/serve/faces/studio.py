"""The studio page: static files, fed by the native API only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine

FOLDER = Path(__file__).parent.parent / "studio"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    del engine  # the page asks the API
    router = APIRouter(include_in_schema=False)
    files = {each.name: each for each in FOLDER.iterdir() if each.suffix in TYPES}

    def answer(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        return FileResponse(files[name], media_type=TYPES[files[name].suffix], headers={"cache-control": "no-cache"})

    @router.get("/")
    async def page() -> FileResponse:
        return answer("index.html")

    @router.get("/studio/{name}")
    async def part(name: str) -> FileResponse:
        return answer(name)

    return router
