"""What the denoiser is told at each step of one picture: usually the same, with prompt editing something else.

wording = encode(family, request)
wording.at(index=0, total=20)                   # a Conditioning of one row, or of two with guidance
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import denoise, grammar
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.generate import Request
    from brushwork.grammar import Stretch
    from brushwork.values import Conditioning, Family

REMEMBERED = 16
"""Texts of a model that are kept encoded; each takes up to some megabytes."""


@dataclass(frozen=True)
class Wording:
    """All texts of a picture, encoded, and which of them are told when."""

    encoded: Conditioning
    steps: int
    stretches: tuple[tuple[Stretch, ...], ...] = ()
    """Of the negative prompt (with guidance) and of the prompt; the rows lie in this order. Empty: all rows, always."""

    def at(self, index: int, total: int) -> Conditioning:
        """Return what is told at look ``index`` of ``total`` (some samplers look several times in a step)."""
        if not self.stretches:
            return self.encoded
        import torch

        step = index * self.steps // total + 1
        places, before = [], 0
        for course in self.stretches:
            places.append(before + next(n for n, stretch in enumerate(course) if step <= stretch.last))
            before += len(course)
        return self.encoded.rows(torch.tensor(places))


def encode(family: Family, request: Request) -> Wording:
    """Encode a picture's prompts, in A1111's grammar if the request says so.

    Raises:
        ConfigError: The family reads plain text only and these are not.
    """
    if not request.grammar and request.clip_skip == 1:
        return Wording(denoise.conditioning(family, [request]), request.steps)
    courses = _courses(family, request)
    encoder: Any = getattr(family, "encode_pieces", None)
    if encoder is None:
        _refuse(courses, request, family)
        return Wording(denoise.conditioning(family, [request]), request.steps)
    texts = [
        grammar.weigh(each.text) if request.grammar else _plain(each.text) for course in courses for each in course
    ]
    parameter = next(family.denoiser.parameters())
    encoded = encoder(texts, request.clip_skip).to(parameter.device, parameter.dtype)
    changing = any(len(course) > 1 for course in courses)
    return Wording(encoded, request.steps, courses if changing else ())


class Remembered:
    """What texts were encoded to last, for one model: n pictures of a prompt encode it once."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self.most = most
        self._known: OrderedDict[tuple[Any, ...], Wording] = OrderedDict()

    def encode(self, family: Family, request: Request) -> Wording:
        """Return what ``encode`` does; nobody changes it, so it may be shared."""
        guided = denoise.guided(family, request)
        scale = request.guidance_scale if family.guidance == "embedded" else guided
        texts = (request.prompt, request.negative_prompt if guided else "")
        key = (*texts, scale, request.grammar, request.clip_skip, request.steps)
        if key not in self._known:
            self._known[key] = encode(family, request)
        self._known.move_to_end(key)
        while len(self._known) > self.most:
            self._known.popitem(last=False)
        return self._known[key]


def check_plain(family: Family, request: Request) -> None:
    """Refuse prompts that mean more than their words, for a family that reads plain text.

    Raises:
        ConfigError: They do, or a layer shall be skipped.
    """
    _refuse(_courses(family, request), request, family)


def _courses(family: Family, request: Request) -> tuple[tuple[Stretch, ...], ...]:
    prompts = [request.negative_prompt, request.prompt] if denoise.guided(family, request) else [request.prompt]
    return tuple(_course(each, request) for each in prompts)


def _course(text: str, request: Request) -> tuple[Stretch, ...]:
    return grammar.stretches(text, request.steps) if request.grammar else (grammar.Stretch(request.steps, text),)


def _plain(text: str) -> tuple[grammar.Piece, ...]:
    return (grammar.Piece(text),)


def _refuse(courses: Sequence[Sequence[Stretch]], request: Request, family: Family) -> None:
    """Refuse what a family that reads plain text would not understand."""
    if request.clip_skip != 1:
        message = f"clip_skip: {family.name} has no layers to skip; leave it out"
        raise ConfigError(message)
    for course in courses:
        if len(course) > 1 or grammar.weigh(course[0].text) != _plain(course[0].text):
            message = (
                f"prompt: {family.name} reads plain text, so brackets, weights and BREAK mean nothing to it; leave "
                f"them out, or write \\( and \\) for brackets themselves"
            )
            raise ConfigError(message)
