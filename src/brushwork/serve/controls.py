"""ControlNets in requests: by their names in the catalogue, with pictures by their ids.

ControlAsked(model="canny", image="0f3a...", module="canny", weight=0.8)
"""

from __future__ import annotations

import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, model_validator

from brushwork import controlnet
from brushwork.controlnet import maps
from brushwork.errors import BrushworkError, ConfigError
from brushwork.serve import checks, uploads
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import PIL.Image

    from brushwork.controlnet import Control, Network
    from brushwork.serve.catalogue import Catalogue
    from brushwork.serve.jobs import Planned
    from brushwork.serve.settings import Limits
    from brushwork.values import Family


class MapAsked(Settings):
    """How a ControlNet's map is made of a picture."""

    module: maps.ModuleName = Field("none", description="How the map is made of the image; none: the image is the map.")
    resolution: int | None = Field(
        maps.RESOLUTION,
        ge=1,
        le=maps.MOST_RESOLUTION,
        description="With canny: the shorter side at which edges are looked for; null: that of the picture drawn.",
    )
    low: float = Field(maps.LOW, ge=0, le=maps.CHANNEL, description="With canny: a weaker edge than this is none.")
    high: float = Field(maps.HIGH, ge=0, le=maps.CHANNEL, description="With canny: a stronger one than this is one.")
    resize_mode: maps.ResizeMode = Field("crop", description="For an image of other proportions than the picture.")

    def made(self) -> maps.Module:
        """Return the module with its settings."""
        return maps.Module(self.module, self.resolution, self.low, self.high)


class MapRequest(MapAsked):
    """A map that somebody wants to see."""

    image: str = Field(min_length=1, description="The id of a picture: POST /api/v1/images.")
    width: PositiveInt | None = Field(None, description="Of the picture that it is for; null: as large as it is made.")
    height: PositiveInt | None = Field(None, description="Of the picture that it is for; null: as large as it is made.")


class ControlAsked(MapAsked):
    """A ControlNet that steers the pictures of a job."""

    model: str = Field(min_length=1, description="A name of GET /api/v1/controlnets.")
    image: str | None = Field(
        None, description="The id of a picture: POST /api/v1/images; null: the one to start from."
    )
    weight: float = Field(1.0, ge=0, le=controlnet.MOST_WEIGHT, description="0: as if it were not there.")
    guidance_start: float = Field(0.0, ge=0, le=1, description="From which part of the steps on it steers.")
    guidance_end: float = Field(1.0, ge=0, le=1, description="Up to which part.")
    mode: controlnet.Mode = Field("balanced", description="See docs/serve.md, ControlNet.")
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
        check_installed(each.module)
        name = catalogue.find("controlnet", each.model).name
        found.append(each.model_copy(update={"model": name, "image": image}))
    return tuple(found)


def read(fields: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the units that an infotext names, by the fields of ``ControlAsked``; never their pictures.

    What it says and this server cannot do is under ``unknown``, as it is written there.
    """
    return [_read(text) for name, text in fields.items() if _UNIT.fullmatch(name)]


def _read(text: str) -> dict[str, Any]:
    said = controlnet.parse(text)
    if _PIXEL_PERFECT.search(text):
        said["resolution"] = None
    module = said.get("module", "none")
    known = next((each for each in maps.MODULES if each in (module.lower(), module.lower().partition(" (")[0])), None)
    unknown = [] if known else [f"module {module}"]
    said = {name: value for name, value in said.items() if name != "module"} | ({"module": known} if known else {})
    for words, name in (("Control Mode", "mode"), ("Resize Mode", "resize_mode")):
        found = re.search(rf"\b{words}: ([^,]+)", text)
        if found and name not in said:
            unknown.append(f"{words.lower()} {found[1].strip()}")
    return said | {"unknown": unknown}


_UNIT = re.compile(r"ControlNet[ -]\d+")
_PIXEL_PERFECT = re.compile(r"\bPixel Perfect: True\b")


def check_installed(module: str) -> None:
    """Refuse a module that is known, but not here.

    Raises:
        ConfigError: It is not installed.
    """
    if module not in maps.available():
        message = f"controlnet.module: {module} is not installed on this server; it has {', '.join(maps.available())}"
        raise ConfigError(message)


def check_size(asked: MapAsked, size: tuple[int, int], limits: Limits, drawn: tuple[int | None, int | None]) -> None:
    """Refuse a picture that would have to be made too large to look for its edges: a long strip, for example.

    Args:
        asked: How the map is made.
        size: Width and height of the picture.
        limits: Of the server.
        drawn: Width and height of what is drawn, as far as they are known.

    Raises:
        ConfigError: With both numbers.
    """
    if asked.module != "canny":
        return
    sides = [each or limits.side for each in drawn]
    factor = asked.resolution / min(size) if asked.resolution else max(sides[0] / size[0], sides[1] / size[1])
    wide, high = (max(1, round(side * factor)) for side in size)
    if wide * high > limits.upload_pixels:
        message = (
            f"controlnet.image: {size[0]}x{size[1]} would be looked at in {wide}x{high}, more than the limit of this "
            f"server, {limits.upload_pixels} pixels; cut it, or lower the resolution"
        )
        raise ConfigError(message)


def check_pictures(planned: Sequence[Planned], limits: Limits, path: Callable[[str], Path]) -> None:
    """Refuse pictures of a job whose maps would take too much memory.

    Raises:
        ConfigError: With both numbers.
    """
    import PIL.Image

    for each in {(control, one.width, one.height) for one in planned for control in one.controlnet}:
        control, width, height = each
        with PIL.Image.open(path(str(control.image))) as image:
            check_size(control, image.size, limits, (width, height))


def draw_map(asked: MapRequest, limits: Limits, path: Path) -> bytes:
    """Return the map of a picture as PNG.

    Raises:
        UserError: Its module is not here, or it would be too large.
    """
    import PIL.Image

    check_installed(asked.module)
    checks.size("", asked.width or 0, asked.height or 0, limits)
    if (asked.width is None) != (asked.height is None):
        message = "width and height: give both, or neither"
        raise ConfigError(message)
    whole = (asked.width, asked.height) if asked.width and asked.height else None
    with PIL.Image.open(path) as image:
        check_size(asked, image.size, limits, whole or image.size)
        return uploads.encode(maps.make(image, asked.made(), asked.resize_mode, whole))


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
            asked.made(),
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
