"""ControlNets in requests: by their names in the catalogue, with pictures by their ids.

ControlAsked(model="canny", image="0f3a...", module="canny", weight=0.8)
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from brushwork import controlnet
from brushwork.controlnet import maps
from brushwork.errors import BrushworkError, ConfigError
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import PIL.Image

    from brushwork.controlnet import Control, Network
    from brushwork.serve.catalogue import Catalogue
    from brushwork.serve.jobs import Planned
    from brushwork.values import Family


class ControlAsked(Settings):
    """A ControlNet that steers the pictures of a job."""

    model: str = Field(min_length=1, description="A name of GET /api/v1/controlnets.")
    image: str | None = Field(
        None, description="The id of a picture: POST /api/v1/images; null: the one to start from."
    )
    module: maps.ModuleName = Field("none", description="How the map is made of the image; none: the image is the map.")
    resolution: int | None = Field(
        maps.RESOLUTION,
        ge=1,
        le=maps.MOST_RESOLUTION,
        description="With canny: the shorter side at which edges are looked for; null: that of the picture drawn.",
    )
    low: float = Field(maps.LOW, ge=0, le=maps.CHANNEL, description="With canny: a weaker edge than this is none.")
    high: float = Field(maps.HIGH, ge=0, le=maps.CHANNEL, description="With canny: a stronger one than this is one.")
    weight: float = Field(1.0, ge=0, le=controlnet.MOST_WEIGHT, description="0: as if it were not there.")
    guidance_start: float = Field(0.0, ge=0, le=1, description="From which part of the steps on it steers.")
    guidance_end: float = Field(1.0, ge=0, le=1, description="Up to which part.")
    mode: controlnet.Mode = Field("balanced", description="See docs/serve.md, ControlNet.")
    resize_mode: maps.ResizeMode = Field("crop", description="For an image of other proportions than the picture.")
    union: int | None = Field(
        None, ge=0, description="Of a ControlNet for several sorts of maps: which one, as its maker numbers them."
    )

    @model_validator(mode="after")
    def _ordered(self) -> ControlAsked:
        if self.guidance_start >= self.guidance_end:
            message = f"guidance_start {self.guidance_start:g} is not before guidance_end {self.guidance_end:g}"
            raise ValueError(message)
        return self


def resolved(planned: Planned, catalogue: Catalogue) -> tuple[ControlAsked, ...]:
    """Return a picture's ControlNets with every name looked up.

    Raises:
        UserError: There is none of a name, or nothing that its map could be made of.
    """
    found = []
    for each in planned.controlnet:
        image = each.image or planned.init
        if image is None:
            message = "controlnet.image: it needs the id of a picture; send it with POST /api/v1/images"
            raise ConfigError(message)
        if each.module not in maps.available():
            message = f"controlnet.module: {each.module} is not installed on this server"
            raise ConfigError(message)
        name = catalogue.find("controlnet", each.model).name
        found.append(each.model_copy(update={"model": name, "image": image}))
    return tuple(found)


def told(planned: Planned, catalogue: Catalogue, path: Callable[[str], Path]) -> list[dict[str, Any]]:
    """Return what the worker is told of a picture's ControlNets.

    Raises:
        UserError: One is not there any more.
    """
    return [
        each.model_dump() | {"path": catalogue.find("controlnet", each.model).path, "image": str(path(str(each.image)))}
        for each in planned.controlnet
    ]


class Networks:
    """Loaded ControlNets, for the worker; those that were unused longest go when there is no room."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[tuple[str, str], Network] = OrderedDict()

    def bytes(self) -> int:
        """Return how much memory they take."""
        modules = [each.module for each in self._loaded.values()]
        return sum(weight.numel() * weight.element_size() for each in modules for weight in each.parameters())

    def clear(self) -> None:
        """Let go of all."""
        self._loaded.clear()

    def control(
        self, said: dict[str, Any], family: Family, room: float, open_: Callable[[str], PIL.Image.Image]
    ) -> Control:
        """Return a control of a picture, its network loaded.

        Args:
            said: Of ``told``.
            family: The base.
            room: Bytes that all networks together may take, but one is always kept.
            open_: Reads a picture.

        Raises:
            ConfigError: It is for another base.
            ModelError: It cannot be read.
        """
        asked = ControlAsked(**{name: said[name] for name in ControlAsked.model_fields})
        return controlnet.Control(
            self._network(said["path"], asked.model, family, room),
            open_(said["image"]),
            asked.weight,
            asked.guidance_start,
            asked.guidance_end,
            asked.mode,
            asked.resize_mode,
            maps.Module(asked.module, asked.resolution, asked.low, asked.high),
            asked.union,
        )

    def _network(self, path: str, name: str, family: Family, room: float) -> Network:
        from brushwork.controlnet import networks

        key = (path, family.name)
        if key in self._loaded:
            try:
                networks.check(self._loaded[key], family)
            except BrushworkError:
                del self._loaded[key]  # of a base of the same family and another shape
        if key not in self._loaded:
            self._loaded[key] = networks.load(Path(path), family, name)
        self._loaded.move_to_end(key)
        while len(self._loaded) > 1 and self.bytes() > room:
            self._loaded.popitem(last=False)
        return self._loaded[key]
