"""Which rows of the metadata are fetched: criteria by name and expressions, as conditions in SQL.

    conditions(FilterConfig(resolution=512, language=("en",)), known={"width", "height", "language"})
    unfold(["laion", "resolution=768"])     # what --preset means, as keys of the filter

A row whose value for a criterion is missing does not pass it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from brushwork.errors import ConfigError, nearest
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence


class FilterConfig(Settings):
    """Which rows are fetched."""

    resolution: PositiveInt | None = Field(None, description="The least shorter side by the metadata, in pixels.")
    aspect: float | None = Field(
        None, ge=1, allow_inf_nan=False, description="How many times as long as wide a picture may be."
    )
    language: tuple[str, ...] = Field((), description="The languages taken, as the metadata spell them.")
    similarity: float | None = Field(
        None, allow_inf_nan=False, description="The least similarity of picture and caption."
    )
    watermark: float | None = Field(None, allow_inf_nan=False, description="The largest probability of a watermark.")
    unsafe: float | None = Field(
        None, allow_inf_nan=False, description="The largest probability of unsafe content; UNLIKELY counts as 0."
    )
    aesthetic: float | None = Field(None, allow_inf_nan=False, description="The least aesthetic score.")
    caption_length: tuple[NonNegativeInt, NonNegativeInt] | None = Field(
        None, description="The fewest and the most characters of a caption."
    )
    domain: tuple[str, ...] = Field((), description="Hosts with those below them; !host: not from there.")
    keywords: tuple[str, ...] = Field((), description="One of these words is in the caption; !word: this one is not.")
    where: tuple[str, ...] = Field((), description="SQL expressions over the columns that must be true.")
    dedupe: tuple[Literal["url", "caption"], ...] = Field(
        (), description="Of the rows that pass and share it, the first is kept."
    )

    @field_validator("caption_length")
    @classmethod
    def _in_order(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            message = f"the fewest, {value[0]}, is more than the most, {value[1]}"
            raise ValueError(message)
        return value

    @field_validator("domain", "keywords")
    @classmethod
    def _says_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not each.removeprefix("!").strip() for each in value):
            message = "an entry is empty"
            raise ValueError(message)
        return value


PRESETS: dict[str, Any] = {
    "resolution": 512,
    "aspect": 2.0,
    "language": ["en"],
    "similarity": 0.28,
    "watermark": 0.5,
    "unsafe": 0.1,
    "aesthetic": 5.0,
    "caption-length": [5, 300],
    "domain": None,
    "keywords": None,
    "dedupe": ["url", "caption"],
}
"""What ``--preset NAME`` means without a value; None: it needs one."""
BOUNDS = {"similarity": ">=", "watermark": "<=", "unsafe": "<=", "aesthetic": ">="}
OF_TEXTS = ("caption-length", "domain", "keywords")
"""Criteria that look into addresses and captions, which is dear."""
BUNDLES = {"laion": ("resolution", "aspect", "similarity", "watermark", "unsafe", "caption-length", "dedupe")}
"""Several presets under one name. LAION-2B-en was itself cut at a similarity of 0.28 and captions of 5 characters."""


def unfold(presets: Sequence[str]) -> dict[str, Any]:
    """Return the keys of the filter that presets such as ``laion``, ``similarity`` or ``resolution=768`` stand for.

    Raises:
        ConfigError: There is no such preset, or it needs a value.
    """
    tree: dict[str, Any] = {}
    for preset in presets:
        name, equals, text = preset.partition("=")
        name = name.replace("_", "-")
        if name in BUNDLES and not equals:
            tree |= {each.replace("-", "_"): PRESETS[each] for each in BUNDLES[name]}
            continue
        if name not in PRESETS:
            what = f"--preset {name} takes no value." if name in BUNDLES else f"There is no preset {name!r}."
            hint = "" if name in BUNDLES else nearest(name, [*PRESETS, *BUNDLES])
            message = f"{what}{hint}"
            raise ConfigError(message)
        if PRESETS[name] is None and not text:
            message = f"--preset {name} needs a value, for example --preset {name}=cat,!dog"
            raise ConfigError(message)
        several = isinstance(PRESETS[name], list) or PRESETS[name] is None
        given: Any = text.split(",") if several else text
        tree[name.replace("-", "_")] = given if equals else PRESETS[name]
    return tree


def conditions(filter_: FilterConfig, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield (reason, condition in SQL) for each criterion, cheap ones first, without the expressions of ``where``.

    Args:
        filter_: What is asked.
        known: The roles (``width``, ``similarity`` ...) for which the metadata have a column.

    Raises:
        ConfigError: A criterion needs a column that is not there.
    """
    for name, needs, condition in _criteria(filter_):
        missing = [each for each in needs if each not in known]
        if missing:
            message = (
                f"filter.{name} needs the metadata's column of {' and '.join(missing)}, which is not there.\n"
                f"Name it (columns.{missing[0]}=NAME) or leave the criterion out."
            )
            raise ConfigError(message)
        yield name.replace("_", "-"), condition


def _criteria(asked: FilterConfig) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield (key, roles it needs, condition)."""
    size = ("width", "height")
    if asked.resolution is not None:
        yield "resolution", size, f"width >= {asked.resolution} AND height >= {asked.resolution}"
    if asked.aspect is not None:
        yield "aspect", size, f"width <= {asked.aspect!r} * height AND height <= {asked.aspect!r} * width"
    for name, sign in BOUNDS.items():
        if getattr(asked, name) is not None:
            yield name, (name,), f"{name} {sign} {getattr(asked, name)!r}"
    if asked.language:
        known = ", ".join(literal(each.lower()) for each in asked.language)
        yield "language", ("language",), f"lower(language) IN ({known})"
    if asked.caption_length is not None:
        least, most = asked.caption_length
        yield "caption_length", (), f"length(caption) BETWEEN {least} AND {most}"
    if asked.domain:
        yield "domain", (), _domain(asked.domain)
    if asked.keywords:
        yield "keywords", (), _both(asked.keywords, _has_words)


def _both(entries: Sequence[str], some_of: Any) -> str:
    """Return the condition that one of the plain entries holds and none of those marked with ``!``."""
    wanted = [each for each in entries if not each.startswith("!")]
    unwanted = [each.removeprefix("!") for each in entries if each.startswith("!")]
    parts = ([f"({some_of(wanted)})"] if wanted else []) + ([f"NOT ({some_of(unwanted)})"] if unwanted else [])
    return " AND ".join(parts)


def _domain(entries: Sequence[str]) -> str:
    # What stands between // and the next /, without a user's name and the port.
    host = r"lower(regexp_extract(url, '^[A-Za-z]+://(?:[^/?#]*@)?([^/:?#]+)', 1))"

    def some_of(hosts: Sequence[str]) -> str:
        each = (name.strip().lower().removeprefix("*.") for name in hosts)
        return " OR ".join(f"{host} = {literal(name)} OR suffix({host}, {literal('.' + name)})" for name in each)

    return _both(entries, some_of)


def _has_words(words: Sequence[str]) -> str:
    pattern = "|".join(re.escape(word.strip()) for word in words)
    return f"regexp_matches(caption, {literal(f'(?i)(^|[^[:alnum:]])({pattern})([^[:alnum:]]|$)')})"


def literal(text: str) -> str:
    """Return a text as SQL writes it.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
