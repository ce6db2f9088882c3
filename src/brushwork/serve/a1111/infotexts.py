r"""An infotext as a request: what a picture was made with, for fields that the client does not send.

filled(TextRequest(infotext="a dog\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 7"))       # seed 7, 20 steps
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from brushwork import infotext
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from brushwork.serve.a1111.requests import Generation

    Asked = TypeVar("Asked", bound=Generation)

NAMES = {
    "Steps": "steps", "Sampler": "sampler_name", "Schedule type": "scheduler", "CFG scale": "cfg_scale",
    "Seed": "seed", "Denoising strength": "denoising_strength", "Variation seed": "subseed",
    "Variation seed strength": "subseed_strength", "Tiling": "tiling", "Clip skip": "clip_skip",
    "Hires upscale": "hr_scale", "Hires upscaler": "hr_upscaler", "Hires steps": "hr_second_pass_steps",
    "Hires sampler": "hr_sampler_name", "Hires schedule type": "hr_scheduler", "Hires prompt": "hr_prompt",
    "Hires negative prompt": "hr_negative_prompt", "Noise multiplier": "initial_noise_multiplier",
    "Mask blur": "mask_blur",
}  # fmt: skip
SIZES = {
    "Size": ("width", "height"),
    "Hires resize": ("hr_resize_x", "hr_resize_y"),
    "Seed resize from": ("seed_resize_from_w", "seed_resize_from_h"),
}
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def filled(asked: Asked) -> Asked:
    """Return a request with its infotext's settings where it says nothing itself; the model by its title, if given.

    Raises:
        ConfigError: The infotext has a value that is none.
    """
    if not asked.infotext:
        return asked
    read = infotext.parse(asked.infotext)
    known = type(asked).model_fields
    said = {name: value for name, value in _said(read.fields).items() if name in known}
    said |= {"prompt": read.prompt, "negative_prompt": read.negative_prompt}
    kept = {name: getattr(asked, name) for name in asked.model_fields_set}
    options = _options(read.fields)
    if options:
        kept["override_settings"] = options | (kept.get("override_settings") or {})
    try:
        return type(asked).model_validate(said | kept)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"infotext: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ConfigError(message) from None


def _options(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return an infotext's settings that are options of A1111's."""
    options: dict[str, Any] = {"sd_model_checkpoint": fields["Model"]} if "Model" in fields else {}
    if "Conditional mask weight" in fields:
        weight = fields["Conditional mask weight"]
        options["inpainting_mask_weight"] = float(weight) if re.fullmatch(r"\d(\.\d{1,8})?", weight) else weight
    return options


def _said(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return an infotext's settings by the names of a request's fields."""
    said: dict[str, Any] = {NAMES[name]: value for name, value in fields.items() if name in NAMES}
    for name, sides in SIZES.items():
        found = _SIZE.fullmatch(fields.get(name, ""))
        if found is not None:
            said |= dict(zip(sides, map(int, found.groups()), strict=True))
    return said | ({"enable_hr": True} if "Hires upscale" in fields or "Hires resize" in fields else {})
