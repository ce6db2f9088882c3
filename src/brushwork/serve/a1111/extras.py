"""What A1111's clients ask besides drawing: larger pictures, and what is on a picture."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from brushwork.serve import seen, uploads, wire
from brushwork.serve.upscale import Asked, upscale

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine


class One(Asked):
    """``extra-single-image``."""

    image: str


class Named(BaseModel):
    """A picture of several."""

    data: str
    name: str = ""


class Several(Asked):
    """``extra-batch-images``."""

    imageList: list[Named] = Field(min_length=1, max_length=16)  # noqa: N815  (the client's name)


class Interrogated(BaseModel):
    """``interrogate``."""

    image: str
    model: str = "clip"


def make_router(engine: Engine) -> APIRouter:
    """Return the routes; ``brushwork.serve.faces.a1111`` has them under its prefix."""
    router, limits = APIRouter(), engine.config.limits

    def larger(text: str, asked: Asked) -> str:
        image = wire.picture_of(text, limits.upload_pixels, "image")
        return wire.base64_of(uploads.encode(upscale(image, asked, limits)))

    @router.post("/extra-single-image")
    async def single(asked: One) -> dict[str, Any]:
        """Return a larger picture."""
        return {"html_info": "", "image": await asyncio.to_thread(larger, asked.image, asked)}

    @router.post("/extra-batch-images")
    async def batch(asked: Several) -> dict[str, Any]:
        """Return larger pictures."""
        images = [await asyncio.to_thread(larger, each.data, asked) for each in asked.imageList]
        return {"html_info": "", "images": images}

    @router.post("/interrogate")
    async def interrogate(asked: Interrogated) -> dict[str, str]:
        """Return what the embedded captioner sees on a picture, whichever model is named."""
        image = wire.picture_of(asked.image, limits.upload_pixels, "image")
        return {"caption": await asyncio.to_thread(seen.describe, image)}

    return router
