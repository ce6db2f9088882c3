"""What a picture was made with, as text inside the picture: A1111's form for other tools, JSON for everything else.

    save_png(picture, "00000-1.png")
    read_png("00000-1.png").fields["Seed"]          # "1"

A1111's form has two limits that no writer can lift: a line of the prompt that begins with ``Negative prompt:`` is read
as the negative prompt, and spaces around a line are lost.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from brushwork.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL.Image import Image

PARAMETERS, PROVENANCE = "parameters", "brushwork"
NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'\s*(\w[\w \-/]{1,63}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_LONGEST_LINE = 16_384
"""Characters; a longer last line is no settings line. Pictures come from anybody, and the search is quadratic in it."""
_FEWEST_FIELDS = 3  # fewer on the last line and readers take it for a part of the prompt


@dataclass(frozen=True)
class Infotext:
    """A parsed infotext; ``provenance`` is what brushwork wrote beside it, if it did."""

    prompt: str = ""
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] | None = None
    text: str = ""
    """A1111's form as it stands in the picture."""


class Described(Protocol):
    """A picture with the two texts that go into its file."""

    @property
    def image(self) -> Image:
        """The pixels."""

    @property
    def infotext(self) -> str:
        """A1111's form."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Everything, for JSON."""


def write(prompt: str, negative_prompt: str, fields: Mapping[str, object]) -> str:
    r"""Write an infotext; ``fields`` in the order in which they shall stand.

    >>> write("a cat", "", {"Steps": 20, "Sampler": "Euler a", "Seed": 1})
    'a cat\nSteps: 20, Sampler: Euler a, Seed: 1'
    """
    assert len(fields) >= _FEWEST_FIELDS, "readers would take so short a line for a part of the prompt"
    lines = [prompt]
    if negative_prompt:
        lines.append(f"{NEGATIVE} {negative_prompt}")
    lines.append(", ".join(f"{key}: {_quoted(_text(value))}" for key, value in fields.items()))
    return "\n".join(lines)


def parse(text: str) -> Infotext:
    """Read an infotext, ours or another tool's; what is no settings line belongs to the prompt."""
    *lines, last = text.strip().split("\n")
    found = _FIELD.findall(last) if len(last) <= _LONGEST_LINE else []
    if len(found) < _FEWEST_FIELDS:
        lines, found = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    current = prompt
    for line in map(str.strip, lines):
        if line.startswith(NEGATIVE):
            current = negative
            current.append(line.removeprefix(NEGATIVE).strip())
        else:
            current.append(line)
    fields = {key.strip(): _unquoted(value.strip()) for key, value in found}
    return Infotext("\n".join(prompt), "\n".join(negative), fields)


def save_png(picture: Described, path: str | Path) -> Path:
    """Write a picture with both texts; the file appears whole or not at all."""
    from PIL.PngImagePlugin import PngInfo

    path = Path(path)
    chunks = PngInfo()
    chunks.add_text(PARAMETERS, picture.infotext)
    chunks.add_text(PROVENANCE, json.dumps(dict(picture.provenance), ensure_ascii=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    picture.image.save(temporary, format="PNG", pnginfo=chunks)
    return temporary.replace(path)


def read_png(path: str | Path) -> Infotext:
    """Read both texts of a picture; a PNG without them gives an empty Infotext.

    Raises:
        UserError: The file is not there or is not a PNG.
    """
    try:
        texts = _texts(path)
    except (OSError, SyntaxError, ValueError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else "is not a PNG that can be read"
        message = f"{str(path)!r} {reason}. Name a picture that brushwork or A1111 wrote as PNG."
        raise UserError(message) from error
    return _of(texts)


def read_bytes(data: bytes) -> Infotext:
    """Read both texts of a PNG in memory, of any origin; a picture of another format has none.

    Raises:
        UserError: It is no picture.
    """
    import io

    import PIL.Image

    try:
        return _of(_texts(io.BytesIO(data)))
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        message = "image: this is no PNG that can be read"
        raise UserError(message) from error


def _texts(source: Any) -> dict[str, str]:
    import PIL.Image

    with PIL.Image.open(source, formats=["PNG"]) as image:
        image.load()
        return {str(key): str(value) for key, value in image.info.items()}


def _of(texts: Mapping[str, str]) -> Infotext:
    found = parse(texts.get(PARAMETERS, ""))
    provenance, text = _json(texts.get(PROVENANCE)), texts.get(PARAMETERS, "")
    return Infotext(found.prompt, found.negative_prompt, found.fields, provenance, text)


def _json(text: str | None) -> dict[str, Any] | None:
    """Return what brushwork wrote; another tool's chunk of the same name counts as none."""
    try:
        value = json.loads(text or "null")
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _text(value: object) -> str:
    """Write numbers as A1111 does: 7, not 7.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _quoted(text: str) -> str:
    """Quote what would be cut at a comma, a colon or a newline, and what quotes or spaces around it would change."""
    plain = not re.search(r'[,:\n]|^"|^\s|\s$', text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _unquoted(text: str) -> str:
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):  # noqa: PLR2004  (two quotes)
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, str) else text
