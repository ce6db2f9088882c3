"""How many tokens a prompt is to a model, as it would be read when it is drawn.

count(family, "a (red:1.3) dog")                # {"tokens": 3, "chunks": 1, "limit": 75}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import chunks, grammar
from brushwork.embeddings import expand
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from brushwork.values import Family

ENDLESS = 1 << 20
"""A tokenizer that claims to read more has no limit of its own."""


def count(family: Family, text: str) -> dict[str, Any]:
    """Return tokens, chunks, and the limit: of a prompt that changes while it is drawn, the longest form of it.

    CLIP's chunks are filled one after the other, so ``limit`` is that of all of them. Any other family reads a prompt
    to the end of its longest-reading text encoder; ``unread`` is what it does not.

    Raises:
        ConfigError: The family draws by its own pipeline, which counts for itself, or the prompt is not understood.
    """
    if getattr(family, "draw", None) is not None:
        message = f"model: its own pipeline ({family.name}) reads the prompt; nothing is known of its tokens"
        raise ConfigError(message)
    words, _ = grammar.take_out(text)
    forms = [each.text for each in grammar.stretches(words.strip(), 1000)]
    if getattr(family, "encode_pieces", None) is not None:
        (tokenizer,) = family.tokenizers.values()
        cut = max((chunks.cut(grammar.weigh(form), tokenizer) for form in forms), key=_length)
        room = tokenizer.model_max_length - 2
        return {"tokens": _length(cut), "chunks": len(cut), "limit": room * len(cut), "unread": ""}
    counts = [
        (len(_ids(tokenizer, words, special=False)), _room(tokenizer)) for tokenizer in family.tokenizers.values()
    ]
    number, room = max(counts, key=lambda each: each[1])
    return {"tokens": number, "chunks": 1, "limit": room if room < ENDLESS else None, "unread": family.unread(words)}


def _length(cut: list[chunks.Chunk]) -> int:
    """Return how many tokens there are."""
    return sum(len(each.ids) for each in cut)


def _room(tokenizer: Any) -> int:
    """Return how many tokens a prompt can have besides the marks."""
    return int(tokenizer.model_max_length) - len(_ids(tokenizer, "", special=True))


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    words = expand(text, tokenizer) if text else text
    return list(tokenizer(words, add_special_tokens=special, verbose=False).input_ids)
