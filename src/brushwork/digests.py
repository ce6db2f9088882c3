"""The digests of many pictures in sixteen bytes each, as if they were a list of texts.

digests = Digests(["cf4ab791c62b8d2b2109c90275287816"])
digests[0], len(digests), different(digests.lots(np.array([0])))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

SIZE = 16
NONE = bytes(SIZE)
"""Stands for "", the digest of a picture that is not there yet."""


class Digests:
    """Digests of ``brushwork.images.digest`` by index."""

    def __init__(self, texts: Iterable[str] = (), *, size: int = 0) -> None:
        self._data = bytearray(SIZE * size)
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one: 32 hexadecimal digits, or "" for a picture that is not there yet."""
        self._data += _bytes(text)

    def __setitem__(self, index: int, text: str) -> None:
        if not 0 <= index < len(self):
            raise IndexError(index)
        self._data[SIZE * index : SIZE * (index + 1)] = _bytes(text)

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

    def at(self, places: NDArray[np.integer]) -> Digests:
        """Return those at some places."""
        chosen = Digests()
        chosen._data = bytearray(np.frombuffer(self._data, f"V{SIZE}")[places].tobytes())
        return chosen

    def lots(self, places: NDArray[np.integer]) -> NDArray[np.uint64]:
        """Return the first eight bytes of those at some places: of a million, no two differ in the others alone."""
        lots: NDArray[np.uint64] = np.frombuffer(self._data, np.uint64)[::2][places]
        return lots


def _bytes(text: str) -> bytes:
    data = bytes.fromhex(text) or NONE
    assert len(data) == SIZE, f"{text!r} is no digest"
    return data


def different(*every: NDArray[np.uint64]) -> int:
    """Return how many different digests there are, by their lots."""
    lots = np.concatenate(every) if len(every) > 1 else every[0]
    lots.sort()
    return len(lots) and 1 + int(np.count_nonzero(lots[1:] != lots[:-1]))
