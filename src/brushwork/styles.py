"""The words of a style: found in a data set's captions, looked for in other captions.

template = template_of(captions)             # "{prompt}, old ink engraving", or None
plain("a dog, old ink engraving", template)  # "a dog"
words_of(captions, said)                     # ("engraving", "ink", "old")
hits(["an engraving of a dog"], words)       # [True]
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from brushwork import contact
from brushwork.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from brushwork.config import Config

PROMPT = "{prompt}"
LEAST_CAPTIONS, MOST_CAPTIONS = 4, 500
"""So many captions show what is shared; more are not read."""
SHARED = 0.8
"""The share of captions that have a style's words."""
SAID = 0.5
"""The share of training pictures of which a captioner must say a word; it misses some."""
TOKEN = re.compile(r"\w+|[^\w\s]")
WORD = re.compile(r"\w+")
EDGE = r"(?:(?<!\w)|(?!\w))"
"""No place inside a word."""
BEFORE, AFTER = re.compile(r"(\bof|[,:])\s*$"), re.compile(r"^\s*(,|\(|\b(in|by|as|on)\b)")
"""A style stands before "of" or a colon, or behind a comma, "in", "by", "as" or "on"."""
EMPTY = frozenset(
    ("a", "an", "the", "of", "in", "on", "at", "by", "as", "to", "with", "and", "or", "is", "are", "it", "its", "this",
     "that", "there", "some", "one", "two", "very")
)  # fmt: skip
"""Words that say nothing about a style."""


@dataclass(frozen=True)
class Style:
    """The words of a run's style."""

    template: str | None
    words: tuple[str, ...]
    captions: tuple[str, ...]
    """Of the training pictures."""

    @staticmethod
    def of(config: Config) -> Style:
        """Read the settings and, for what they leave open, the training data's captions."""
        settings = config.validation
        try:
            source = config.data.build()
            places = contact.spread(getattr(source, "distinct", len(source)), MOST_CAPTIONS)
            captions = tuple(source[place].caption for place in places)
        except DataError:
            captions = ()  # whoever measures beside the training pictures says that they are gone
        return Style(settings.style_template or template_of(captions), settings.style_words, captions)


def template_of(captions: Sequence[str]) -> str | None:
    """Return what at least 80 % of the captions have around a thing, with ``{prompt}`` for the thing; None for nothing.

    >>> template_of(["a dog, in ink", "a cat, in ink", "an owl, in ink", "a house, in ink"])
    '{prompt}, in ink'
    """
    texts = [text.strip() for text in dict.fromkeys(captions) if text.strip()]
    if len(texts) < LEAST_CAPTIONS:
        return None
    starts, ends = set(), set()
    for text in texts[:: max(1, len(texts) // 8)]:
        for token in TOKEN.finditer(text):
            if BEFORE.search(text[: token.end()]):
                starts.add(text[: token.end()])
            if AFTER.search(text[token.start() :]):
                ends.add(text[token.start() :])
    before = max((each for each in starts if _shared(texts, rf"^{re.escape(each)}{EDGE}.", each)), key=len, default="")
    after = max((each for each in ends if _shared(texts, rf".{EDGE}{re.escape(each)}$", each)), key=len, default="")
    if not before and not after:
        return None
    joint = "" if not after or after[0] in ",;:." else " "
    return f"{before}{' ' if before else ''}{PROMPT}{joint}{after}"


def _shared(texts: Sequence[str], pattern: str, affix: str) -> bool:
    """Return whether a start or an end holds words that mean something, and enough texts have it beside something."""
    words = [word for word in WORD.findall(affix.lower()) if word not in EMPTY]
    return bool(words) and sum(re.search(pattern, text) is not None for text in texts) >= SHARED * len(texts)


def check(template: str) -> str:
    """Return a template that someone wrote.

    Raises:
        ConfigError: It has no place for the prompt, or nothing beside it.
    """
    if template.count(PROMPT) != 1 or not WORD.search(template.replace(PROMPT, "")):
        message = (
            f"validation.style_template: {template!r} must hold {PROMPT} once, and the words of the style beside it, "
            f"such as '{PROMPT}, old ink engraving'."
        )
        raise ConfigError(message)
    return template


def plain(prompt: str, template: str) -> str:
    """Return a prompt without the words of the style."""
    before, _, after = template.partition(PROMPT)
    return prompt.strip().removeprefix(before).removesuffix(after).strip() or prompt


def styled(prompt: str, template: str) -> str:
    """Return a prompt with the words of the style, once."""
    return template.replace(PROMPT, plain(prompt, template))


def words_of(captions: Iterable[str], said: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the words of a style: in 80 % of a data set's captions, or in half of a captioner's of the same pictures.

    Base and tuned pictures are never asked: words chosen for telling them apart would prove nothing.
    """
    return tuple(sorted(_frequent(captions, SHARED) | _frequent(said, SAID)))


def _frequent(captions: Iterable[str], share: float) -> set[str]:
    sets = [set(WORD.findall(text.lower())) - EMPTY for text in captions]
    counts = Counter(word for each in sets for word in each)
    if len(sets) < LEAST_CAPTIONS:
        return set()
    return {word for word, count in counts.items() if count >= share * len(sets) and not word.isdigit()}


def hits(captions: ArrayLike, words: Sequence[str]) -> NDArray[np.bool_]:
    """Return which captions, of any shape, hold one of the words or phrases, whole and in either case."""
    pattern = re.compile(r"\b(?:" + "|".join(re.escape(word) for word in words) + r")\b", re.IGNORECASE)
    every = np.asarray(captions, dtype=np.str_)
    return np.array([bool(words) and pattern.search(text) is not None for text in every.ravel()]).reshape(every.shape)
