"""The values of an axis as A1111's X/Y/Z plot reads them: separated by commas, numbers also as ranges.

values("1-5 (+2), 8", int)                  # [1, 3, 5, 8]
values("0-1 [3]", float)                    # [0.0, 0.5, 1.0]
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from typing import TYPE_CHECKING

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 50
"""Values of an axis, as of our own grids."""
_NUMBERS = {int: r"\d+", float: r"\d+(?:\.\d*)?"}
_RANGES = {
    kind: (
        re.compile(rf"\s*([+-]?\s*{number})\s*-\s*([+-]?\s*{number})(?:\s*\(([+-]{number})\s*\))?\s*"),
        re.compile(rf"\s*([+-]?\s*{number})\s*-\s*([+-]?\s*{number})\s*\[(\d+)\s*\]\s*"),
    )
    for kind, number in _NUMBERS.items()
}
_NEAR = 1e-9


def values(typed: str | list[str], kind: type) -> list[str | float]:
    """Return the values of an axis.

    A range ``first-last (+step)`` of whole numbers ends at ``last`` at the latest. One of real numbers goes on until it
    has reached ``last``, so that ``1-6 (+2)`` is 1, 3, 5, 7: as A1111 counts, for its clients know it so.

    Args:
        typed: The text, or values that were chosen from a list.
        kind: ``int``, ``float`` or ``str``.

    Raises:
        ConfigError: One is no number, or there are too many.
    """
    cells = split(typed) if isinstance(typed, str) else [str(each).strip() for each in typed]
    if kind is str:
        return list(cells)
    found: list[str | float] = []
    for cell in cells:
        found += itertools.islice(_range(cell, kind), MOST + 1)
        if len(found) > MOST:
            message = f"more than {MOST} values, which is the limit of this server"
            raise ConfigError(message)
    return found


def split(typed: str) -> list[str]:
    """Return the cells of a line separated by commas; quotes hold commas."""
    return [cell.strip() for row in csv.reader(io.StringIO(typed)) for cell in row]


def _range(cell: str, kind: type) -> Iterator[float]:
    stepped, counted = (pattern.fullmatch(cell) for pattern in _RANGES[kind])
    try:
        if stepped is not None:
            first, last = (kind(each.replace(" ", "")) for each in stepped.groups()[:2])
            return _stepped(first, last, kind(stepped[3] or 1), kind)
        if counted is not None:
            first, last = (kind(each.replace(" ", "")) for each in counted.groups()[:2])
            return _spread(first, last, int(counted[3]), kind)
        return iter([kind(cell)])
    except (ValueError, OverflowError):
        message = f"{cell[:40]!r} is no {'whole number' if kind is int else 'number'}"
        raise ConfigError(message) from None


def _stepped(first: float, last: float, step: float, kind: type) -> Iterator[float]:
    if step == 0:
        message = f"{first:g}-{last:g}: steps of 0 lead nowhere"
        raise ConfigError(message)
    end = last + 1 if kind is int else last + step
    for place in itertools.count():
        value = first + place * step
        if (value - end) * (1 if step > 0 else -1) >= (0 if kind is int else -_NEAR):
            return
        yield kind(value) if kind is int else round(value, 8)


def _spread(first: float, last: float, count: int, kind: type) -> Iterator[float]:
    for place in range(count):
        value = first + (last - first) * place / max(1, count - 1)
        yield int(value + _NEAR) if kind is int else round(value, 8)
