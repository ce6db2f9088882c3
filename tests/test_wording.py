"""Numbers are written as a careful person writes them."""

from __future__ import annotations

import math

import pytest

from brushwork import wording

M, N, X = wording.MINUS, wording.NARROW, wording.TIMES


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+0.012"), (-0.0123, f"{M}0.012"), (0.0, "0.000"), (-0.0001, "0.000"),
     (math.nan, "\N{EN DASH}"), (None, "\N{EN DASH}")],
)  # fmt: skip
def test_differences_have_their_sign_and_zero_has_none(value: float | None, text: str) -> None:
    assert wording.signed(value) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "1.00"), (0.25, "0.25"), (0.0625, "0.063"), (0.03125, "0.031"), (0.0012, "0.0012"),
     (2**-14, f"6{N}{X}{N}10⁻⁵"), (1 / 100_001, f"1{N}{X}{N}10⁻⁵"), (None, "\N{EN DASH}")],
)  # fmt: skip
def test_p_values_have_two_digits_that_count(p: float | None, text: str) -> None:
    assert wording.p_text(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (59.6, "1 min 0 s"), (142.4, "2 min 22 s"), (7260, "2 h 01 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 bytes"), (1500, "1.5 kB"), (1_802_344, "1.8 MB"), (153_000_000, "153 MB"),
     (3.44e9, "3.4 GB")]
)  # fmt: skip
def test_sizes(count: float, text: str) -> None:
    assert wording.size(count) == text


def test_one_is_singular() -> None:
    assert (wording.counted(1, "prompt"), wording.counted(1200, "prompt")) == ("1 prompt", f"1{N}200 prompts")
