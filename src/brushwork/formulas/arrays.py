"""What every formula asks of its arrays: tables of finite numbers of matching sizes, or an error that says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

AT_ONCE = 2**19
"""Numbers of a block of a matrix that is never held as a whole: 4 MB of float64, near what a cache holds."""


def finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return an array of finite float64.

    Raises:
        UserError: It holds something else.
    """
    try:
        array: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        message = f"{name}: this is no array of numbers: {error}"
        raise UserError(message) from error
    if not np.isfinite(array).all():
        place = tuple(int(each) for each in np.argwhere(~np.isfinite(array))[0])
        message = f"{name}: only finite numbers can be measured, but at {place} there is {array[place]}."
        raise UserError(message)
    return array


def table(values: ArrayLike, name: str, least: int = 1) -> NDArray[np.float64]:
    """Return finite features (N, d), N at least ``least``.

    Raises:
        UserError: Another shape, too few rows, or something that is not a number.
    """
    array = finite(values, name)
    if array.ndim != 2 or array.shape[1] == 0:  # noqa: PLR2004  (rows and columns)
        message = f"{name}: needs a table (N, d), for features a row for each picture, but the shape is {array.shape}."
        raise UserError(message)
    if len(array) < least:
        message = f"{name}: this needs at least {least} rows (pictures), but there are {len(array)}."
        raise UserError(message)
    return array


def tables(
    x: ArrayLike, y: ArrayLike, names: tuple[str, str] = ("x", "y"), least: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two finite tables of features of the same width.

    Raises:
        UserError: As ``table``, or the widths differ.
    """
    first, second = table(x, names[0], least), table(y, names[1], least)
    if first.shape[1] != second.shape[1]:
        message = (
            f"{names[0]} has features of width {first.shape[1]} and {names[1]} of {second.shape[1]}: they are of "
            f"different encoders and cannot be compared."
        )
        raise UserError(message)
    return first, second


def unit(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Return the rows divided by their lengths.

    Raises:
        UserError: A row is zero and has no direction.
    """
    lengths: NDArray[np.float64] = np.linalg.norm(values, axis=-1, keepdims=True)
    if (lengths == 0).any():
        place = int(np.argwhere(lengths[..., 0] == 0)[0][-1])
        message = f"{name}: row {place} is zero, so it has no direction and no cosine."
        raise UserError(message)
    divided: NDArray[np.float64] = values / lengths
    return divided


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Yield slices of the rows of a matrix (rows, columns), each of at most ``AT_ONCE`` numbers."""
    step = max(1, AT_ONCE // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))


def same_shape(a: NDArray[Any], b: NDArray[Any], names: tuple[str, str]) -> None:
    """Refuse arrays that cannot be paired element by element.

    Raises:
        UserError: The shapes differ.
    """
    if a.shape != b.shape:
        message = f"{names[0]} has the shape {a.shape} and {names[1]} {b.shape}: only equal shapes make pairs."
        raise UserError(message)
