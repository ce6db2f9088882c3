"""The digests of many pictures in sixteen bytes each, as if they were a list of texts.

digests = Digests(["cf4ab791c62b8d2b2109c90275287816"])
digests[0], len(digests), different(digests.array())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SIZE = 16
NONE = bytes(SIZE)
"""Stands for "", the digest of a picture that is not there yet."""


class Digests:
    """Digests of ``brushwork.images.digest`` by index."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._data = bytearray()
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one: 32 hexadecimal digits, or "" for a picture that is not there yet."""
        data = bytes.fromhex(text) or NONE
        assert len(data) == SIZE, f"{text!r} is no digest"
        self._data += data

    def __len__(self) -> int:
        return len(self._data) // SIZE

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        data = self._data[SIZE * index : SIZE * (index + 1)]
        return "" if data == NONE else data.hex()

    def __iter__(self) -> Iterator[str]:
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (Digests, list)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can grow

    def array(self) -> NDArray[Any]:
        """Return them all, (N,) of 16 bytes each."""
        return np.frombuffer(bytes(self._data), f"V{SIZE}")

    def at(self, places: NDArray[np.integer]) -> Digests:
        """Return those at some places."""
        chosen = Digests()
        chosen._data = bytearray(self.array()[places].tobytes())
        return chosen


def different(*every: NDArray[Any]) -> int:
    """Return how many different digests some arrays of them hold together."""
    return len(np.unique(np.concatenate(every).view(f"S{SIZE}"))) if every else 0
