"""Whether a picture is within the limits of the server. Every refusal says the limit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from brushwork import samplers
from brushwork.errors import ConfigError
from brushwork.grammar import take_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.serve.jobs import HiresAsked, Planned
    from brushwork.serve.settings import Limits


def check(planned: Sequence[Planned], limits: Limits) -> None:
    """Refuse what is beyond a limit, and what no sampler could draw.

    Raises:
        ConfigError: With the field and the limit.
    """
    limit("pictures", len(planned), limits.pictures)
    for each in planned:
        limit("steps", each.steps, limits.steps)
        limit("guidance_scale", each.guidance_scale, limits.guidance)
        size("", each.width or 0, each.height or 0, limits)
        if each.seed_resize is not None:
            size("seed_resize.", *each.seed_resize, limits)
        limit("prompt (characters)", len(each.prompt), limits.prompt)
        limit("negative_prompt (characters)", len(each.negative_prompt), limits.prompt)
        limit("adapters", len(each.adapters), limits.adapters)
        limit("controlnet", len(each.controlnet), limits.controlnets)
        _check_text(each.prompt, each.negative_prompt, each.label)
        samplers.resolve(each.sampler)
        if each.hires is not None:
            _larger(each, each.hires, limits)


def _larger(planned: Planned, hires: HiresAsked, limits: Limits) -> None:
    """Check the second pass; the worker knows the size when it is the model's own, and checks it then."""
    limit("hires.steps", hires.steps, limits.steps)
    scale = hires.scale or 1
    size("hires.", hires.width or (planned.width or 0) * scale, hires.height or (planned.height or 0) * scale, limits)
    for name in ("prompt", "negative_prompt"):
        text = getattr(hires, name) or ""
        limit(f"hires.{name} (characters)", len(text), limits.prompt)
        _check_text(text)
        if take_out(text)[1]:
            message = f"hires.{name}: a model has its adapters in both passes; name them in the prompt"
            raise ConfigError(message)
    if hires.sampler is not None:
        samplers.resolve(hires.sampler)


def size(what: str, width: float, height: float, limits: Limits) -> None:
    """Refuse a size in pixels that is beyond a limit.

    Raises:
        ConfigError: With the limit.
    """
    limit(f"{what}width", width, limits.side)
    limit(f"{what}height", height, limits.side)
    limit(f"{what}width x height", width * height, limits.pixels)


def limit(what: str, value: float, most: float) -> None:
    """Refuse a number that is beyond a limit.

    Raises:
        ConfigError: With both numbers.
    """
    if value > most:
        shown = f"{value:g}" if value < sys.float_info.max else "it"
        message = f"{what}: {shown} is more than the limit of this server, {most:g}"
        raise ConfigError(message)


def _check_text(*texts: str) -> None:
    for text in texts:
        if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
            message = "prompt: it has halves of characters in it (surrogates), which are no text"
            raise ConfigError(message)
