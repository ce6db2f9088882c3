"""What clients of A1111's ControlNet extension send: units in ``alwayson_scripts``, and its routes.

A unit that asks for what this server cannot do is refused; one that is switched off says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brushwork.controlnet import Mode, maps
from brushwork.errors import ConfigError, UserError, nearest
from brushwork.serve import uploads, wire
from brushwork.serve.controls import ControlAsked, MapAsked, check_size

if TYPE_CHECKING:
    import PIL.Image

    from brushwork.serve.engine import Engine

SCRIPT = "controlnet"
VERSION = 2
"""Of the extension's API: units in ``alwayson_scripts``."""
CONTROL_MODES: dict[str, Mode] = {
    "balanced": "balanced",
    "my prompt is more important": "prompt",
    "controlnet is more important": "control",
}
RESIZE_MODES = ("just resize", "crop and resize", "resize and fill")
OLD_RESIZE_MODES = {"inner fit (scale to fit)": 2, "scale to fit (inner fit)": 2, "outer fit (shrink to fit)": 1}
"""Earlier spellings, which clients still send."""
NAMES = {"invert": "invert (from white bg & black line)"}
_HASH = re.compile(r"(.*?)\s*\[([0-9a-fA-F]{4,64})\]")


class Unit(BaseModel):
    """One unit, with every field that clients send."""

    model_config = ConfigDict(extra="allow")

    enabled: bool = True
    module: str | None = "none"
    model: str | None = "None"
    weight: float = 1.0
    image: str | dict[str, Any] | None = None
    input_image: str | None = None
    mask: str | None = None
    mask_image: str | None = None
    resize_mode: str | int = 1
    low_vram: bool = False
    lowvram: bool = False
    processor_res: int = -1
    threshold_a: float = -1
    threshold_b: float = -1
    guidance: float | None = None
    guidance_start: float = 0.0
    guidance_end: float = 1.0
    control_mode: str | int = 0
    pixel_perfect: bool = False
    hr_option: str | int = "Both"
    save_detected_map: bool | None = True

    def asked(self, engine: Engine, given: PIL.Image.Image | None) -> tuple[ControlAsked, PIL.Image.Image]:
        """Return what a job is asked, without the picture's id, and the picture.

        Args:
            engine: Knows the names.
            given: The picture of img2img, for a unit that brings none.

        Raises:
            UserError: With the field.
        """
        self._check()
        image = self._picture(engine, given)
        return ControlAsked(
            model=model_of(engine, self.model or ""),
            module=module_of(self.module),
            resolution=None if self.pixel_perfect else _resolution(self.processor_res),
            low=self.threshold_a if self.threshold_a >= 0 else maps.LOW,
            high=self.threshold_b if self.threshold_b >= 0 else maps.HIGH,
            weight=self.weight,
            guidance_start=self.guidance_start,
            guidance_end=self.guidance_end if self.guidance is None else self.guidance,
            mode=CONTROL_MODES[_worded(self.control_mode, tuple(CONTROL_MODES))],
            resize_mode=self._resize_mode(),
        ), image

    def _check(self) -> None:
        picture = self.image if isinstance(self.image, dict) else {}
        wanted = {
            "mask": bool(self.mask or self.mask_image or picture.get("mask")),
            "hr_option": str(self.hr_option).lower() not in ("both", "0"),
            **{name: bool(self.__pydantic_extra__ and self.__pydantic_extra__.get(name)) for name in _MEANT},
        }
        for name, is_wanted in wanted.items():
            if is_wanted:
                message = f"controlnet.{name}: this server cannot do it; leave it out"
                raise ConfigError(message)

    def _picture(self, engine: Engine, given: PIL.Image.Image | None) -> PIL.Image.Image:
        text = self.image.get("image") if isinstance(self.image, dict) else self.image
        text = text or self.input_image
        if isinstance(text, str) and text:
            return wire.picture_of(text, engine.config.limits.upload_pixels, "controlnet.image").convert("RGB")
        if given is None:
            message = "controlnet.image: txt2img needs a picture for each unit"
            raise ConfigError(message)
        return given.convert("RGB")

    def _resize_mode(self) -> maps.ResizeMode:
        text = str(self.resize_mode).lower()
        if text in OLD_RESIZE_MODES:
            return maps.RESIZE_MODES[OLD_RESIZE_MODES[text]]
        return maps.RESIZE_MODES[RESIZE_MODES.index(_worded(self.resize_mode, RESIZE_MODES))]


_MEANT = ("advanced_weighting", "effective_region_mask", "loopback", "batch_images", "ipadapter_input")
"""Fields that would change the picture."""


def _worded(value: str | int, words: tuple[str, ...]) -> str:
    """Return the word of a choice, which clients send as a word or a number."""
    text = str(value).lower()
    if text.isdecimal() and int(text) < len(words):
        return words[int(text)]
    if text not in words:
        message = f"controlnet: there is no {str(value)[:80]!r}.{nearest(text, words)}"
        raise ConfigError(message)
    return text


def _resolution(asked: int) -> int:
    return asked if asked > 0 else maps.RESOLUTION


def module_of(name: str | None) -> maps.ModuleName:
    """Return a module by the extension's name for it.

    Raises:
        ConfigError: This server has none of that name.
    """
    text = (name or "none").strip().lower()
    for ours in maps.available():
        if text in (ours, NAMES.get(ours, ours).lower()):
            return ours
    message = f"controlnet.module: this server has no {str(name)[:80]!r}; it has {', '.join(maps.available())}"
    raise ConfigError(message)


def model_of(engine: Engine, title: str) -> str:
    """Return the name of a ControlNet from its name or its title with the start of its hash.

    Raises:
        UserError: There is none, or it has another hash.
    """
    from pathlib import Path

    from brushwork.filehash import sha256

    found = _HASH.fullmatch(title.strip())
    known = {each.name: each for each in engine.catalogue.all("controlnet")}
    if found is None or title.strip() in known:
        return engine.catalogue.find("controlnet", title.strip()).name
    entry = engine.catalogue.find("controlnet", found[1])
    path = Path(entry.path)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if not any(sha256(each).startswith(found[2].lower()) for each in files):
        message = f"controlnet.model: {entry.name!r} is here, but its hash does not begin with {found[2]}"
        raise ConfigError(message)
    return entry.name


def units_of(scripts: dict[str, Any]) -> list[Unit]:
    """Return the units of a request that are switched on.

    Raises:
        UserError: There is another script, or a unit is none.
    """
    units: list[Unit] = []
    for name, said in scripts.items():
        if name.lower() != SCRIPT:
            message = f"alwayson_scripts: this server has no {name[:80]!r}; leave it out"
            raise ConfigError(message)
        args = said.get("args", []) if isinstance(said, dict) else said
        if not isinstance(args, list) or any(not isinstance(each, dict) for each in args):
            message = "alwayson_scripts: controlnet: args is a list of units, each an object with fields"
            raise ConfigError(message)
        try:
            units += [Unit.model_validate(each) for each in args]
        except ValidationError as error:
            first = error.errors()[0]
            message = f"controlnet.{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise ConfigError(message) from None
    return [each for each in units if each.enabled and (each.model or "None") != "None"]


@dataclass(frozen=True)
class Prepared:
    """A unit that is understood, but for the id of its picture, which is not kept yet."""

    asked: ControlAsked
    png: bytes = field(repr=False)
    size: tuple[int, int]
    shown: str | None = field(repr=False)
    """The map that was made, in base64, for clients that want to see it."""

    def keep(self, engine: Engine) -> ControlAsked:
        """Put the picture into the store, which is for the server's own thread."""
        return self.asked.model_copy(update={"image": engine.store.add_upload(self.png, *self.size)})


def prepare(
    engine: Engine, scripts: dict[str, Any], given: PIL.Image.Image | None, size: tuple[int | None, int | None]
) -> list[Prepared]:
    """Return the units of a request; nothing is written.

    Args:
        engine: Knows the names and the limits.
        scripts: ``alwayson_scripts``.
        given: The picture of img2img, for units that bring none.
        size: Of what is drawn, as far as it is known.

    Raises:
        UserError: With the field.
    """
    units, most = units_of(scripts), engine.config.limits.controlnets
    if len(units) > most:
        message = f"controlnet: {len(units)} units are more than the limit of this server, {most}"
        raise ConfigError(message)
    found = []
    for unit in units:
        asked, image = unit.asked(engine, given)
        check_size(asked, image.size, engine.config.limits, size)
        shown = None
        if unit.save_detected_map and asked.module != "none":
            whole = (size[0], size[1]) if size[0] and size[1] else None
            shown = wire.base64_of(uploads.encode(maps.make(image, asked.made(), asked.resize_mode, whole)))
        found.append(Prepared(asked, uploads.encode(image), image.size, shown))
    return found


class Detect(BaseModel):
    """``/controlnet/detect``; one client sends ``controlnet_images``."""

    controlnet_module: str = "none"
    controlnet_input_images: list[str] = Field([], max_length=16)
    controlnet_images: list[str] = Field([], max_length=16)
    controlnet_processor_res: int = Field(-1, le=maps.MOST_RESOLUTION)
    controlnet_threshold_a: float = -1
    controlnet_threshold_b: float = -1
    controlnet_masks: list[str] = []
    low_vram: bool = False

    def maps(self, engine: Engine) -> dict[str, Any]:
        """Return the maps.

        Raises:
            UserError: There is no picture, or no such module.
        """
        pictures = self.controlnet_input_images or self.controlnet_images
        if not pictures:
            message = "controlnet_input_images: no picture was sent"
            raise UserError(message)
        name = module_of(self.controlnet_module)
        resolution = _resolution(self.controlnet_processor_res)
        low = self.controlnet_threshold_a if self.controlnet_threshold_a >= 0 else maps.LOW
        high = self.controlnet_threshold_b if self.controlnet_threshold_b >= 0 else maps.HIGH
        asked, limits = MapAsked(module=name, resolution=resolution, low=low, high=high), engine.config.limits
        opened = [wire.picture_of(each, limits.upload_pixels, "controlnet_input_images") for each in pictures]
        for each in opened:
            check_size(asked, each.size, limits, each.size)
        made = [maps.make(each, asked.made(), "crop", None) for each in opened]
        return {"info": "Success", "images": [wire.base64_of(uploads.encode(each)) for each in made]}
