"""The routes of A1111's ControlNet extension, ``/controlnet``: what there is, and maps of pictures."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from brushwork.controlnet import maps
from brushwork.serve.a1111 import controlnet

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine


def make_router(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/controlnet", tags=["A1111"])

    @router.get("/version")
    async def version() -> dict[str, int]:
        """Return the version of the extension's API."""
        return {"version": controlnet.VERSION}

    @router.get("/model_list")
    async def model_list(update: bool = True) -> dict[str, list[str]]:  # noqa: FBT001, FBT002  (a query parameter)
        """Return the ControlNets by name."""
        if update:
            await asyncio.to_thread(engine.catalogue.refresh)
        return {"model_list": [each.name for each in engine.catalogue.all("controlnet")]}

    @router.get("/module_list")
    async def module_list(alias_names: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  (a query parameter)
        """Return the ways to make a map of a picture that are here."""
        names = [controlnet.NAMES.get(each, each) if alias_names else each for each in maps.available()]
        return {"module_list": names, "module_detail": {name: _sliders(name) for name in names}}

    @router.get("/control_types")
    async def control_types() -> dict[str, Any]:
        """Return that there is one kind, with everything in it."""
        modules, names = maps.available(), [each.name for each in engine.catalogue.all("controlnet")]
        every = {
            "module_list": modules,
            "model_list": ["None", *names],
            "default_option": "none",
            "default_model": "None",
        }
        return {"control_types": {"All": every}}

    @router.get("/settings")
    async def settings() -> dict[str, int]:
        """Return how many units a request can have."""
        return {"control_net_unit_count": engine.config.limits.controlnets}

    @router.post("/detect")
    async def detect(asked: controlnet.Detect) -> dict[str, Any]:
        """Return maps of pictures."""
        return await asyncio.to_thread(asked.maps, engine)

    return router


def _sliders(name: str) -> dict[str, Any]:
    """Return what of a module can be set, as the extension says it."""
    if name != "canny":
        return {"model_free": False, "sliders": []}
    return {
        "model_free": False,
        "sliders": [
            {"name": "Resolution", "value": maps.RESOLUTION, "min": 64, "max": maps.MOST_RESOLUTION, "step": 8},
            {"name": "Low Threshold", "value": maps.LOW, "min": 0, "max": maps.CHANNEL, "step": 1},
            {"name": "High Threshold", "value": maps.HIGH, "min": 0, "max": maps.CHANNEL, "step": 1},
        ],
    }
