"""Data sets of the studio, ``/api/v1/datasets``: put pictures in, read and write captions, take pictures out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Form, Query, UploadFile
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import Field

from brushwork.serve import seen
from brushwork.serve.examined import Examiner
from brushwork.serve.faces.runs import REPORT_POLICY
from brushwork.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.serve.datasets import Datasets
    from brushwork.serve.engine import Engine

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


Resolution = Annotated[int, Query(ge=8, le=8192, description="What it is to be trained at, in pixels.")]


class Changed(Settings):
    """How a picture is turned or cut."""

    turn: int = Field(0, description="Degrees clockwise: 0, 90, 180 or 270.")
    crop: tuple[float, float, float, float] | None = Field(
        None,
        description="Left, top, right, bottom of what stays after turning, in shares of the sides; null: all of it.",
    )


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/v1/datasets", tags=["data"])
    _sets(router, engine.trainings.datasets)
    _reports(router, Examiner(engine.trainings.datasets, engine.places))
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


def _reports(router: APIRouter, examiner: Examiner) -> None:
    @router.get("/{name}/report")
    async def report(name: str, resolution: Resolution = 512) -> dict[str, Any]:
        """Look at every picture and caption: findings with their levels and pictures, and what repeats what."""
        return await asyncio.to_thread(examiner.report, name, resolution)

    @router.get("/{name}/report/page", response_class=HTMLResponse)
    async def page(name: str, resolution: Resolution = 512) -> HTMLResponse:
        """Return the whole report, one self-contained page."""
        html = await asyncio.to_thread(examiner.page, name, resolution)
        return HTMLResponse(html, headers={"content-security-policy": REPORT_POLICY})


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

    @router.post("/{name}/{picture}/change")
    async def change(name: str, picture: str, asked: Changed) -> dict[str, str]:
        """Turn a picture, or cut it; it has another name then, and keeps its caption."""
        changed = await asyncio.to_thread(datasets.change, name, picture, asked.turn, asked.crop)
        return {"picture": changed}

    @router.delete("/{name}/{picture}")
    async def drop(name: str, picture: str) -> dict[str, str]:
        """Take a picture out."""
        datasets.drop(name, picture)
        return {"picture": picture}


def _described(path: Path) -> str:
    import PIL.Image

    with PIL.Image.open(path) as image:
        return seen.describe(image)
