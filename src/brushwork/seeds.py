"""Randomness without state: every random draw is a function of the seed and of where it is used.

Nothing has to be saved to resume, and a sample's noise is the same however the batch is split over micro-batches,
loader workers or processes.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *where: str | int) -> int:
    """Return a 63-bit seed for one use of randomness, equal on every machine and Python version.

    >>> derive(0, "noise", 3) == derive(0, "noise", 3) != derive(0, "noise", 4)
    True
    """
    text = "\0".join([str(seed), *(f"{type(part).__name__}:{part}" for part in where)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
