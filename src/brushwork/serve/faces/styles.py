"""Styles, ``/api/v1/styles``: the named pieces of prompts that A1111's face applies too, from the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import Field

from brushwork.serve.styles import Style, Styles
from brushwork.settings import Settings

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine

LONGEST = 4000


class StyleAsked(Settings):
    """What a style says."""

    prompt: str = Field(
        "", max_length=LONGEST, description="{prompt} in it stands for the prompt; else it is put behind."
    )
    negative_prompt: str = Field("", max_length=LONGEST)


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router, styles = APIRouter(prefix="/api/v1/styles", tags=["styles"]), Styles(engine.config.data / "styles.csv")

    @router.get("")
    async def listed() -> list[dict[str, str]]:
        """Return all styles."""
        return [each._asdict() for each in styles.all().values()]

    @router.put("/{name}")
    async def put(name: str, asked: StyleAsked) -> dict[str, str]:
        """Add a style, or change the one of this name."""
        style = Style(name.strip(), asked.prompt.strip(), asked.negative_prompt.strip())
        styles.put(style)
        return style._asdict()

    @router.delete("/{name}")
    async def remove(name: str) -> dict[str, str]:
        """Take a style out."""
        styles.remove(name)
        return {"name": name}

    return router
