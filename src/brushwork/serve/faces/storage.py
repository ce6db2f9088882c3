"""What takes room on the server, ``/api/v1/storage``, and how to remove it; and one labelled picture of a whole job."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Response
from pydantic import Field

from brushwork.errors import UserError
from brushwork.infotext import PARAMETERS, Infotext, parse
from brushwork.serve import controls, sheets, uploads
from brushwork.serve.upscale import Asked, upscale
from brushwork.settings import Settings

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine
    from brushwork.serve.store import JobRow


class Larger(Settings):
    """A picture that is to be made larger without drawing."""

    scale: float = Field(2.0, gt=0, le=8, description="How much larger.")
    upscaler: str = Field("Lanczos", description="Lanczos or Nearest.")


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/api/v1")
    _room(router, engine)
    _pictures(router, engine)
    return router


def _room(router: APIRouter, engine: Engine) -> None:
    @router.get("/storage", tags=["storage"])
    async def used() -> dict[str, Any]:
        """Return what takes room, and for how long it stays."""
        return engine.keeper.used()

    @router.delete("/storage/uploads", tags=["storage"])
    async def forget_uploads() -> dict[str, int]:
        """Remove all pictures that were sent and that no job names."""
        return {"removed": engine.keeper.forget_uploads()}

    @router.delete("/images/{picture}", tags=["images"])
    async def remove(picture: str) -> dict[str, str]:
        """Remove a picture that was sent; drawn ones go with their job."""
        if engine.store.waiting_for(picture):
            message = "image: a job that is not over starts from it; cancel that first"
            raise UserError(message)
        if not engine.store.remove_upload(picture):
            raise HTTPException(404, "there is no such picture that was sent")
        return {"id": picture}

    @router.post("/jobs/{job}/forget", tags=["jobs"])
    async def forget(job: str) -> dict[str, str]:
        """Remove a job that is over from the history, with its pictures."""
        _found(engine, job)
        engine.keeper.forget(job)
        return {"id": job}


def _pictures(router: APIRouter, engine: Engine) -> None:
    @router.get("/jobs/{job}/sheet", tags=["jobs"])
    async def sheet(job: str) -> Response:
        """Return all finished pictures of a job on one labelled sheet, a grid's by its axes."""
        row = _found(engine, job)
        if not any(each.state == "done" for each in row.pictures):
            raise HTTPException(404, "no picture of this job is finished")
        data = await asyncio.to_thread(sheets.write, row, engine.store.path)
        disposition = f'attachment; filename="brushwork-{row.id[:8]}.png"'
        return Response(data, media_type="image/png", headers={"content-disposition": disposition})

    @router.post("/images/{picture}/upscale", tags=["images"])
    async def larger(picture: str, asked: Larger) -> Response:
        """Return a picture made larger without drawing, with what it was made from inside; nothing is kept."""
        path = engine.store.picture(picture)
        if path is None:
            raise HTTPException(404, "there is no such picture")
        return Response(await asyncio.to_thread(_larger, engine, path, asked), media_type="image/png")

    @router.post("/metadata/text", tags=["images"])
    async def read(text: Annotated[str, Body(embed=True, max_length=100_000)]) -> dict[str, Any]:
        """Return what an infotext says, as it is written under a picture."""
        found: Infotext = parse(text)
        return {
            "prompt": found.prompt,
            "negative_prompt": found.negative_prompt,
            "fields": dict(found.fields),
            "controlnet": controls.read(found.fields),
        }


def _larger(engine: Engine, path: Any, asked: Larger) -> bytes:
    import io

    import PIL.Image
    from PIL.PngImagePlugin import PngInfo

    wanted = Asked(upscaling_resize=asked.scale, upscaler_1=asked.upscaler)
    with PIL.Image.open(path) as image:
        text = image.info.get(PARAMETERS)
        image.load()
        made = upscale(image, wanted, engine.config.limits)
    if not isinstance(text, str) or not text:
        return uploads.encode(made)
    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_text(
        PARAMETERS, f"{text}, Postprocess upscale by: {asked.scale:g}, Postprocess upscaler: {asked.upscaler}"
    )
    made.info.clear()
    made.save(buffer, format="PNG", pnginfo=chunks)
    return buffer.getvalue()


def _found(engine: Engine, job: str) -> JobRow:
    row = engine.store.job(job)
    if row is None:
        raise HTTPException(404, "there is no such job")
    return row
