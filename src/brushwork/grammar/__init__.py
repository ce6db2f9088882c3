r"""The prompt grammar of AUTOMATIC1111's web UI, which its users type without thinking; nothing here knows a model.

    read("a (red:1.3) dog <lora:ink:0.8>", steps=20)
    # Prompt(stretches=(Stretch(20, "a (red:1.3) dog "),), networks=(Network("ink", 0.8, 0.8),))

| written | means | read by |
|---|---|---|
| `(x)` `((x))` `(x:1.3)` `[x]` | attention times 1.1, 1.21, 1.3, 1/1.1 | ``emphasis.weigh`` |
| `BREAK` | what follows begins a new chunk of 75 tokens | ``emphasis.weigh`` |
| `[a:b:0.5]` `[b:8]` `[a::8]` | a until half of the steps (or step 8), then b | ``schedule.stretches`` |
| `[a|b]` | a and b in turn, step by step | ``schedule.stretches`` |
| `<lora:name:0.8>` | that adapter at that weight | ``networks.take_out`` |
| `\(` `\)` `\[` `\]` `\:` `\|` | the character itself | all |

The meaning of each form is that of A1111 1.10; where it goes on with something it does not understand, we say so.
"""

from __future__ import annotations

from dataclasses import dataclass

from brushwork.grammar.emphasis import BREAK, Piece, weigh
from brushwork.grammar.networks import Network, take_out
from brushwork.grammar.schedule import Stretch, stretches

__all__ = ["BREAK", "Network", "Piece", "Prompt", "Stretch", "read", "stretches", "take_out", "weigh"]


@dataclass(frozen=True)
class Prompt:
    """What a prompt says: which words at which steps, and which adapters besides."""

    stretches: tuple[Stretch, ...]
    networks: tuple[Network, ...]

    @property
    def plain(self) -> bool:
        """Whether these are just words: no emphasis, no break, no change from step to step."""
        return len(self.stretches) == 1 and weigh(self.stretches[0].text) == (Piece(self.stretches[0].text, 1.0),)


def read(text: str, steps: int) -> Prompt:
    """Read a prompt that is drawn in so many steps.

    Raises:
        ConfigError: A tag or a weight cannot be understood.
    """
    words, networks = take_out(text)
    return Prompt(stretches(words, steps), networks)
