"""What chance alone gives, and from which N a number may be compared."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.errors import UserError
from brushwork.metrics import frechet_distance, kernel_distance, noise_floor, not_comparable, permutation_test

RNG = np.random.default_rng(7)
GAUSSIAN = RNG.normal(size=(400, 64))


@pytest.mark.parametrize(("n", "expected"), [(30, 63), (100, 22)])
def test_two_samples_of_one_gaussian_lie_as_far_apart_as_is_known(n: int, expected: float) -> None:
    floor = noise_floor(GAUSSIAN, frechet_distance, size=n, draws=10)
    assert floor.mean == pytest.approx(expected, rel=0.05)
    assert floor.low < floor.mean < floor.high
    assert (floor.n, floor.with_replacement) == (n, False)


def test_the_floor_of_an_unbiased_distance_is_around_zero() -> None:
    floor = noise_floor(GAUSSIAN[:, :4], kernel_distance, draws=40)
    assert floor.low < 0 < floor.high
    assert floor.n == 200


def test_without_enough_pictures_they_are_drawn_again_and_that_is_said() -> None:
    assert noise_floor(GAUSSIAN[:20], frechet_distance, size=20, draws=3).with_replacement


def test_the_floor_depends_on_the_seed_alone() -> None:
    one = [noise_floor(GAUSSIAN[:20], frechet_distance, draws=3, seed=seed) for seed in (1, 1, 2)]
    assert one[0] == one[1] != one[2]


def test_one_picture_repeated_has_no_floor() -> None:
    assert noise_floor(np.tile(GAUSSIAN[0], (10, 1)), frechet_distance, draws=3)[:3] == (0.0, 0.0, 0.0)


def test_permutations_find_a_shift_and_no_shift() -> None:
    x, y = GAUSSIAN[:60, :4], GAUSSIAN[60:120, :4]
    assert permutation_test(x, y + 1, kernel_distance, draws=99) == 0.01
    assert permutation_test(x, y, kernel_distance, draws=99) > 0.05


@pytest.mark.parametrize("paired", [True, False])
def test_equal_sets_give_p_exactly_one_when_pairs_are_swapped(paired: bool) -> None:
    x = GAUSSIAN[:20, :4]
    p = permutation_test(x, x.copy(), frechet_distance, paired=paired, draws=19)
    assert p == 1.0


def test_pairs_see_what_the_spread_of_the_prompts_would_hide() -> None:
    base = 20 * GAUSSIAN[:40, :2]
    tuned = base + np.array([0.5, 0.0])
    assert permutation_test(base, tuned, frechet_distance, paired=True, draws=99) == 0.01
    assert permutation_test(base, tuned, frechet_distance, draws=99) > 0.5


def test_small_sets_are_called_not_comparable() -> None:
    told = not_comparable("fid", 30)
    assert told is not None
    assert told.startswith("not comparable: N = 30, and below 10,000")
    assert not_comparable("fid", 10_000) is None
    with pytest.raises(UserError, match="Did you mean kid"):
        not_comparable("kidd", 5)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(UserError, match="at least 4 rows"):
        noise_floor(GAUSSIAN[:3], frechet_distance)
    with pytest.raises(UserError, match="size must be at least 2"):
        noise_floor(GAUSSIAN, frechet_distance, size=1)
    with pytest.raises(UserError, match="pairs need as many rows: 5 and 6"):
        permutation_test(GAUSSIAN[:5], GAUSSIAN[:6], frechet_distance, paired=True)
