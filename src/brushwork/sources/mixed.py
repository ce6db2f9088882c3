"""Several data sets at once, each with its repeats or its share, and its weight in the loss.

    parts = [{"path": "engravings", "repeats": 2}, {"path": "sketches", "weight": 0.5}]
    source = Config(parts=parts).build()
    source[0].caption, len(source)

Of every epoch a part gets as many samples as it has pictures, times ``repeats``; or, with ``share``, that share of all
samples, where the part that is seen least often is seen once and the others go round.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from brushwork.config import SourcePart
from brushwork.errors import DataError, listing
from brushwork.settings import Settings
from brushwork.sources import ImageSettings

if TYPE_CHECKING:
    from brushwork.sources import captioned
    from brushwork.values import Prior, Sample, Source

OWN = ("repeats", "share", "weight")
SHARED = tuple(name for name in ImageSettings.model_fields if name != "type")
"""Settings that hold for all parts and are given once."""


class Part(Settings):
    """One of the data sets: the settings of its source, and how much it counts."""

    beside: ClassVar[str] = "data"
    """The field whose keys users write beside the others; see ``brushwork.explain``."""

    data: SourcePart = Field(description="Which data; its keys stand beside those here.")
    repeats: PositiveInt | None = Field(None, description="How often an epoch has each of its pictures; default: 1.")
    share: PositiveFloat | None = Field(None, description="Its share of the samples, beside the shares of the others.")
    weight: PositiveFloat = Field(1.0, description="How much each of its samples counts in the loss.")

    @model_validator(mode="before")
    @classmethod
    def _beside(cls, part: Any) -> Any:
        """Take the source's own keys from beside ours."""
        if not isinstance(part, dict) or "data" in part:
            return part
        own = {key: part[key] for key in OWN if key in part}
        return {"data": {"type": "captioned", **{key: part[key] for key in part if key not in OWN}}, **own}

    @model_validator(mode="after")
    def _what_all_share(self) -> Part:
        fields = type(self.data).model_fields
        given = [name for name in SHARED if name in fields and getattr(self.data, name) != fields[name].default]
        if given:
            message = f"{' and '.join(given)} holds for all parts: give it beside parts, not within one"
            raise ValueError(message)
        if self.data.type == "mixed":
            message = "a part cannot be mixed itself; list its parts here"
            raise ValueError(message)
        if self.repeats is not None and self.share is not None:
            message = "repeats and share say the same in two ways; give one"
            raise ValueError(message)
        return self

    @model_serializer(mode="wrap")
    def _flat(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write it as users do, without what all parts share."""
        tree = handler(self)
        data = {key: value for key, value in tree.pop("data").items() if key not in SHARED}
        return {**data, **{key: value for key, value in tree.items() if value is not None}}


class Config(ImageSettings):
    """Settings of several data sets at once."""

    type: Literal["mixed"] = "mixed"
    parts: tuple[Part, ...] = Field(
        description="The data sets: the keys of each, and beside them repeats or share, and weight."
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Config:
        if len(self.parts) < 2:  # noqa: PLR2004  (nothing to mix)
            message = f"parts: {len(self.parts)} is too few to be mixed; use the source of the part itself"
            raise ValueError(message)
        shares = [part.share is not None for part in self.parts]
        if any(shares) and not all(shares):
            message = "parts: some have a share and some have none; give it to all or to none"
            raise ValueError(message)
        pairs = [part.data.type == "pairs" for part in self.parts]
        if any(pairs) and not all(pairs):
            message = "parts: preference pairs cannot be mixed with pictures that are none"
            raise ValueError(message)
        streamed = [getattr(part.data, "path", part.data.type) for part in self.parts if _streams(part)]
        if streamed:
            message = f"parts: {listing(streamed)} is streamed, and what is mixed must be known whole"
            raise ValueError(message)
        return self

    @property
    def path(self) -> str:
        """Where the data lie, for reports."""
        return " + ".join(str(getattr(part.data, "path", part.data.type)) for part in self.parts)

    @property
    def subject(self) -> bool:
        """Whether all pictures show one subject; see ``brushwork.defaults``."""
        return all(getattr(part.data, "subject", False) for part in self.parts)

    @property
    def masks(self) -> bool:
        """Whether any part has masks."""
        return any(getattr(part.data, "masks", False) for part in self.parts)

    def build(self) -> Mixed:
        """Build every part.

        Raises:
            DataError: A part is not as it should be.
        """
        return Mixed([part.data.build() for part in self.parts], self.parts)

    def prior(self) -> Prior | None:
        """Return what the base draws before training; None unless a part asks for it.

        Raises:
            DataError: Several parts do.
        """
        wishes = [wish() for part in self.parts if (wish := getattr(part.data, "prior", None)) is not None]
        asked = [each for each in wishes if each is not None]
        if len(asked) > 1:
            message = f"data.parts: {len(asked)} parts have a class_prompt, but class images are drawn for one only."
            raise DataError(message)
        return asked[0] if asked else None


def _streams(part: Part) -> bool:
    return bool(getattr(part.data, "streaming", False))


class Mixed:
    """The samples of all parts once, one part after the other, and then those that come again."""

    def __init__(self, sources: list[Source], parts: tuple[Part, ...]) -> None:
        self.sources, self.weights = sources, [part.weight for part in parts]
        self.notes = [note for source in sources for note in getattr(source, "notes", ())]
        lengths = [len(source) for source in sources]
        self.totals = _totals(lengths, parts)
        self.starts = list(itertools.accumulate(lengths, initial=0))
        again = [total - length for total, length in zip(self.totals, lengths, strict=True)]
        self.again = list(itertools.accumulate(again, initial=self.starts[-1]))
        """Where the repeats of each part begin."""
        firsts = [getattr(source, "distinct", length) for source, length in zip(sources, lengths, strict=True)]
        self.distinct = len(self) if firsts != lengths else self.starts[-1]
        """The samples up to here show all pictures; see ``picture``."""

    def __len__(self) -> int:
        return self.again[-1]

    def picture(self, index: int) -> int:
        """Return the first sample that shows the same picture in the same part."""
        if index < self.starts[-1] or self.distinct == len(self):
            return index
        part = bisect.bisect_right(self.again, index) - 1
        length = self.starts[part + 1] - self.starts[part]
        return self.starts[part] + (index - self.again[part]) % length

    def place(self, index: int) -> tuple[int, int]:
        """Return which part a sample is of, and its number there."""
        if index < self.starts[-1]:
            part = bisect.bisect_right(self.starts, index) - 1
            return part, index - self.starts[part]
        part = bisect.bisect_right(self.again, index) - 1
        return part, (index - self.again[part]) % (self.starts[part + 1] - self.starts[part])

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part, number = self.place(index)
        sample = self.sources[part][number]
        weight = self.weights[part]
        return sample if weight == 1 else dataclasses.replace(sample, weight=sample.weight * weight)

    def verify(self, look: captioned.Look | None = None) -> None:
        """Read every picture once; see ``brushwork.sources.captioned``."""
        for source in self.sources:
            verify = getattr(source, "verify", None)
            if verify is not None:
                verify(look)


def _totals(lengths: list[int], parts: tuple[Part, ...]) -> list[int]:
    """Return how many samples of each part are in an epoch."""
    shares = [part.share for part in parts]
    if shares[0] is None:
        return [length * (part.repeats or 1) for length, part in zip(lengths, parts, strict=True)]
    # The part whose pictures are seen least often is seen once.
    epoch = max(length / (share or 1) for length, share in zip(lengths, shares, strict=True))
    return [max(length, round((share or 1) * epoch)) for length, share in zip(lengths, shares, strict=True)]
