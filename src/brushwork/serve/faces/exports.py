"""Exports, ``/api/v1/runs/{name}/exports``: a run's result as a file for A1111, Forge, kohya, ComfyUI or diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from brushwork.serve.exporting import ExportAsked, Exporter

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/v1/runs", tags=["training"])
    exporter = Exporter(engine.config, engine.trainings)

    @router.post("/{name}/exports", status_code=201)
    async def make(name: str, asked: ExportAsked) -> dict[str, Any]:
        """Write a run's result for another program and read it back; answers when that is proved."""
        return await exporter.make(name, asked)

    @router.get("/{name}/exports/{file}", response_class=FileResponse)
    async def file(name: str, file: str) -> FileResponse:
        """Return a file that was exported."""
        path = exporter.file(name, file)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    return router
