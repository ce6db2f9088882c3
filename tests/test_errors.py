"""The tree of errors and the words they share."""

from __future__ import annotations

import inspect

import pytest

from brushwork import errors

TREE = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]


@pytest.mark.parametrize("error", TREE, ids=lambda each: each.__name__)
def test_every_error_stands_in_the_tree_that_the_docstring_draws(error: type[Exception]) -> None:
    assert error.__name__ in (errors.__doc__ or "")
    assert issubclass(error, errors.BrushworkError)


@pytest.mark.parametrize("error", TREE, ids=lambda each: each.__name__)
def test_user_errors_exit_with_2_and_all_others_with_1(error: type[errors.BrushworkError]) -> None:
    assert error("x").exit_code == (2 if issubclass(error, errors.UserError) else 1)


def test_a_user_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="wrong"):
        raise errors.ConfigError("wrong")  # noqa: EM101  (short)


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("rnak", ["rank", "alpha"], " Did you mean rank?"),
        ("RANK", ["rank", "alpha"], " Did you mean rank?"),
        ("dpm++ 2m", ["DPM++ 2M", "Euler a"], " Did you mean DPM++ 2M?"),
        ("zzz", ["rank", "alpha"], " Known: alpha, rank."),
        ("zzz", [], ""),
    ],
)
def test_nearest_offers_the_closest_name_or_all_of_them(name: str, known: list[str], said: str) -> None:
    assert errors.nearest(name, known) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, ""), (1, "n0"), (3, "n0, n1, n2"), (4, "n0, n1, n2 and 1 more"), (9, "n0, n1, n2 and 6 more")],
)
def test_listing_names_three_and_counts_the_rest(count: int, said: str) -> None:
    assert errors.listing(f"n{index}" for index in range(count)) == said
