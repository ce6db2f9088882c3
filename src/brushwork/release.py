"""Text encoders are needed once, for the cache; what they take in memory is then given back.

    text_encoders(family, config, method, encoder)

Their weights go (to torch's meta device: the modules stay as they are, without numbers), after what will still be
drawn while training has been encoded. T5-XXL alone takes more memory than a FLUX LoRA's gradients and optimizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork import prompts
from brushwork.errors import ConfigError
from brushwork.values import Conditioning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from brushwork.config import Config
    from brushwork.encoding import Encoder
    from brushwork.values import Family, Method

WORTHWHILE = 1 << 30
"""Bytes."""


def text_encoders(family: Family, config: Config, method: Method, encoder: Encoder, *, filled: bool = True) -> int:
    """Free the text encoders as ``train.free_text_encoders`` says, if the cache is full; return the bytes that took.

    Raises:
        ConfigError: It was asked for, and they are needed.
    """
    asked = config.train.free_text_encoders
    needed = _needed(method, encoder)
    if asked is True and needed:
        message = f"train.free_text_encoders=true is impossible: {needed}. Leave it at auto."
        raise ConfigError(message)
    size = sum(
        each.numel() * each.element_size()
        for module in family.text_encoders.values()
        for each in (*module.parameters(), *module.buffers())
    )
    if not filled or needed or not (size > WORTHWHILE if asked == "auto" else asked):
        return 0
    validation = config.validation
    remember(family, [*prompts.resolve(validation.prompts), validation.negative_prompt, ""])
    for module in family.text_encoders.values():
        module.to("meta")
    return size


def _needed(method: Method, encoder: Encoder) -> str:
    """Say what the text encoders are still for; "": nothing."""
    if not encoder.cache_text:
        return "captions are encoded in every step (train.cache_text)"
    if method.updates_base:
        return "this method saves a whole model, text encoders too"
    return ""


def remember(family: Family, texts: Sequence[str]) -> None:
    """Let a family encode these texts once more and from then on only look them up."""
    import torch

    for name in ("encode_text", "encode_negative"):
        if hasattr(family, name):
            encode = getattr(family, name)
            with torch.no_grad():
                rows = {text: encode([text]) for text in dict.fromkeys(texts)}
            setattr(family, name, _lookup(rows))


def _lookup(rows: dict[str, Conditioning]) -> Callable[[Sequence[str]], Conditioning]:
    def encode(captions: Sequence[str]) -> Conditioning:
        unknown = [each for each in captions if each not in rows]
        if unknown:
            message = (
                f"The text encoders were freed once the cache was full, so {unknown[0]!r} cannot be encoded any more.\n"
                f"Set train.free_text_encoders=false."
            )
            raise ConfigError(message)
        return Conditioning.concatenate([rows[each] for each in captions])

    return encode
