"""Data sets of the studio, ``/api/v1/datasets``: put pictures in, read and write captions, take pictures out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Form, UploadFile
from fastapi.responses import FileResponse

from brushwork.serve import seen

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.serve.datasets import Datasets
    from brushwork.serve.engine import Engine

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/v1/datasets", tags=["data"])
    _sets(router, engine.trainings.datasets)
    _pictures(router, engine.trainings.datasets)
    return router


def _sets(router: APIRouter, datasets: Datasets) -> None:
    @router.get("")
    async def listed() -> list[dict[str, Any]]:
        """Return the data sets."""
        return datasets.all()

    @router.get("/{name}")
    async def items(name: str) -> list[dict[str, Any]]:
        """Return a data set's pictures with their captions."""
        return datasets.items(name)

    @router.post("/{name}", status_code=201)
    async def add(name: str, file: UploadFile, caption: Annotated[str, Form()] = "") -> dict[str, str]:
        """Put a picture in; the first makes the data set."""
        data = await file.read()
        return {"picture": await asyncio.to_thread(datasets.add, name, data, caption)}

    @router.delete("/{name}")
    async def remove(name: str) -> dict[str, str]:
        """Remove a data set that was made here."""
        datasets.remove(name)
        return {"name": name}


def _pictures(router: APIRouter, datasets: Datasets) -> None:
    @router.get("/{name}/{picture}", response_class=FileResponse)
    async def picture(name: str, picture: str) -> FileResponse:
        """Return a picture."""
        path = datasets.picture(name, picture)
        return FileResponse(path, media_type=TYPES.get(path.suffix.lower(), "application/octet-stream"))

    @router.put("/{name}/{picture}")
    async def describe(name: str, picture: str, caption: Annotated[str, Body(embed=True)]) -> dict[str, str]:
        """Write a picture's caption."""
        datasets.describe(name, picture, caption)
        return {"caption": caption}

    @router.post("/{name}/{picture}/caption")
    async def suggest(name: str, picture: str) -> dict[str, str]:
        """Let the captioner say what is on a picture; nothing is written."""
        return {"caption": await asyncio.to_thread(_described, datasets.picture(name, picture))}

    @router.delete("/{name}/{picture}")
    async def drop(name: str, picture: str) -> dict[str, str]:
        """Take a picture out."""
        datasets.drop(name, picture)
        return {"picture": picture}


def _described(path: Path) -> str:
    import PIL.Image

    with PIL.Image.open(path) as image:
        return seen.describe(image)
