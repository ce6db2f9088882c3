"""Numbers of whole sets come with their floor, their N and, for few pictures, the words "not comparable"."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from brushwork import registry
from brushwork.metrics import (
    Drawn,
    affordable_draws,
    find,
    floor_draws,
    frechet_distance,
    kernel_distance,
    swap_test,
)
from brushwork.metrics.inception import measure as inception
from brushwork.metrics.inception import score

if TYPE_CHECKING:
    from brushwork.metrics import Result

RNG = np.random.default_rng(3)
SETS = ("fd", "kid", "clip_mmd", "prdc")


def unit(*shape: int, around: np.ndarray | float = 0.0) -> np.ndarray:
    vectors = RNG.normal(size=shape) + around
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


MANNER = 2 * unit(16)
TRAINING = unit(60, 16, around=MANNER)
GIVEN = Drawn(tuple("abcdefgh"), "target", unit(8, 4, 16), unit(8, 4, 16, around=MANNER), None, TRAINING, "x", "1")


def measured(name: str, drawn: Drawn) -> list[Result]:
    results: list[Result] = registry.load("metrics", name).measure(drawn)
    return results


@pytest.mark.parametrize("name", SETS)
def test_pictures_in_the_manner_of_the_data_are_nearer_to_it_by_more_than_chance(name: str) -> None:
    results = measured(name, GIVEN)
    for kind in dict.fromkeys(result.name for result in results):
        base, tuned, change = (find(results, kind, of) for of in ("base", "tuned", "difference"))
        assert base is not None
        assert tuned is not None
        assert change is not None
        better = 1 if change.direction == "higher" else -1
        if kind == "recall":  # balls around scattered pictures reach everything
            continue
        assert better * change.value > 0
        assert change.value == tuned.value - base.value
        assert change.p <= 4 * change.smallest_p  # type: ignore[operator]
        assert change.smallest_p == 2 / 256
        floor = tuned.details["floor"]
        assert floor["low"] <= floor["mean"] <= floor["high"]
        assert (floor["n"], floor["with_replacement"]) == (30, False)
        assert tuned.details["above_floor"] == pytest.approx(tuned.value - floor["mean"])
        assert abs(tuned.value - floor["mean"]) < abs(base.value - floor["mean"])


@pytest.mark.parametrize("name", [*SETS, "fid"])
@pytest.mark.parametrize("prompt_set", ["target", "control"])
def test_a_set_metric_never_stands_without_floor_n_and_warning(name: str, prompt_set: str) -> None:
    results = measured(name, replace(GIVEN, prompt_set=prompt_set))  # type: ignore[arg-type]
    assert bool(results) == (name != "prdc" or prompt_set == "target")
    for result in results:
        assert result.n == 32
        assert "not comparable: N = 32" in result.remark
        assert "noise floor" in result.remark
        assert "means little" in (result.caveat or "")


def test_on_control_prompts_tuned_is_held_against_base() -> None:
    (result,) = measured("fd", replace(GIVEN, prompt_set="control"))
    assert result.of == "pairs"
    assert result.value == frechet_distance(GIVEN.base.reshape(-1, 16), GIVEN.tuned.reshape(-1, 16))
    assert result.p == result.smallest_p == 1 / 201
    assert result.value > result.details["floor"]["high"]


def test_without_training_pictures_or_with_too_few_nothing_is_said() -> None:
    for few in (None, TRAINING[:3]):
        for name in SETS:
            assert measured(name, replace(GIVEN, references=few)) == []


def test_large_sets_are_comparable_and_larger_ones_have_no_p() -> None:
    big = unit(30, 4, 4)
    given = Drawn(tuple(map(str, range(30))), "target", big, big, None, unit(120, 4), "x", "1")
    for result in measured("kid", given):
        assert result.caveat is None
        assert result.details["references"] == 120
    wide = unit(8, 40, 1600)
    heavy = replace(GIVEN, base=wide, tuned=wide, references=unit(330, 1600))
    assert find(measured("kid", heavy), "kid", "difference") is not None
    assert find(measured("kid", heavy), "kid", "difference").p is None  # type: ignore[union-attr]


def test_fd_leaves_inceptions_distance_to_fid() -> None:
    named = replace(GIVEN, encoder="inception:auto")
    assert measured("fd", named) == []
    assert [each.name for each in measured("fid", named)] == ["fid"] * 3


def test_the_inception_score_of_a_set_is_that_of_its_probabilities() -> None:
    base, tuned = RNG.dirichlet(np.ones(6), (5, 4)), RNG.dirichlet(np.full(6, 0.1), (5, 4))
    results = inception(replace(GIVEN, prompts=tuple("abcde"), base=base, tuned=tuned, references=None))
    assert [result.value for result in results[:2]] == [score(base.reshape(-1, 6)), score(tuned.reshape(-1, 6))]
    assert results[2].value == results[1].value - results[0].value > 0
    assert "5,000" in (results[0].caveat or "")


def test_what_would_take_long_is_drawn_less_often() -> None:
    assert (affordable_draws(48, 106, 176), floor_draws(48, 176)) == (200, 20)
    assert (affordable_draws(2000, 2000, 768), floor_draws(2000, 768)) == (0, 6)
    assert floor_draws(10_000, 2048) == 3


class TestSwapTest:
    def test_few_prompts_are_exchanged_in_every_way(self) -> None:
        base = np.arange(8.0).reshape(4, 1, 2)
        p, smallest = swap_test(base, base + 1, lambda side: float(side.sum()))
        assert p == smallest == 2 / 16

    def test_against_the_sign_flip_test_for_a_mean(self) -> None:
        """For a number that is a mean, exchanging sides is flipping the signs of the prompts' differences."""
        from brushwork.statistics import sign_flip_test

        base, tuned = RNG.normal(size=(2, 7, 3, 1))
        p, _ = swap_test(base, tuned + 0.4, lambda side: float(side.mean()))
        assert p == pytest.approx(sign_flip_test((tuned + 0.4 - base).mean(axis=(1, 2))).p)

    def test_no_change_is_p_one(self) -> None:
        assert swap_test(GIVEN.base, GIVEN.base, lambda side: kernel_distance(side, TRAINING))[0] == 1.0


class TestPairedKernelDistance:
    def test_equal_arrays_give_exactly_zero(self) -> None:
        x = RNG.normal(size=(9, 5))
        assert kernel_distance(x, x, paired=True) == 0.0
        assert kernel_distance(x, x) < 0

    def test_it_is_the_mean_over_pairs_of_pairs(self) -> None:
        """Gretton et al. 2012, equation 4."""
        x, y = RNG.normal(size=(2, 6, 4))
        k = lambda a, b: (a @ b / 4 + 1) ** 3  # noqa: E731
        h = [
            k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i])
            for i in range(6) for j in range(6) if i != j
        ]  # fmt: skip
        assert kernel_distance(x, y, paired=True) == pytest.approx(np.mean(h))
