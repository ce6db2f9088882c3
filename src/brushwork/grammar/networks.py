"""Tags in angle brackets: which adapters a prompt asks for.

take_out("a dog <lora:ink:0.8>")            # ("a dog ", (Network("ink", 0.8, 0.8),))
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from brushwork.errors import ConfigError

_TAG = re.compile(r"<(\w+):([^<>]+)>")
KNOWN = ("lora", "lyco")
"""`lyco` is what an extension called LoHa and LoKr before A1111 read them itself."""


@dataclass(frozen=True)
class Network:
    """An adapter by its file's name or its alias, with what its text encoder's and its denoiser's layers count."""

    name: str
    text_weight: float = 1.0
    weight: float = 1.0


def take_out(text: str) -> tuple[str, tuple[Network, ...]]:
    """Return the text without its tags, and what the tags ask for; a name that stands twice counts with its last tag.

    ``<lora:name:0.8>`` sets both weights, ``<lora:name:0.5:0.8>`` (or ``<lora:name:te=0.5:unet=0.8>``) the text
    encoder's and the denoiser's.

    Raises:
        ConfigError: The tag is of a kind that there is not (hypernet ...), or a weight is no number.
    """
    found: dict[str, Network] = {}
    for match in _TAG.finditer(text):
        kind, inside = match[1], match[2]
        if kind not in KNOWN:
            message = f"prompt: {match[0]!r}: there are no tags {kind!r} here; write <lora:NAME:WEIGHT>"
            raise ConfigError(message)
        network = _network(inside, match[0])
        found.pop(network.name, None)
        found[network.name] = network
    return _TAG.sub("", text), tuple(found.values())


def _network(inside: str, tag: str) -> Network:
    name, *rest = (part.strip() for part in inside.split(":"))
    placed = [part for part in rest if "=" not in part]
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    unknown = sorted(set(named) - {"te", "unet"})
    if not name or len(placed) > 2 or unknown:  # noqa: PLR2004  (text encoder's and denoiser's)
        message = f"prompt: {tag!r} is not understood; write <lora:NAME:WEIGHT> or <lora:NAME:te=0.5:unet=0.8>"
        raise ConfigError(message)
    text_weight = _number(named.get("te", placed[0] if placed else "1"), tag)
    weight = _number(named.get("unet", placed[-1] if placed else str(text_weight)), tag)
    return Network(name, text_weight, weight)


def _number(text: str, tag: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        message = f"prompt: {tag!r}: {text!r} is not a weight; write a number, as in <lora:NAME:0.8>"
        raise ConfigError(message)
    return number
