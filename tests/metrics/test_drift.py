"""Drift is the same-seed change in units of the change between seeds."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.metrics import Drawn
from brushwork.metrics.drift import cosine_distance, measure, seed_floor


def unit(*shape: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def drawn(base: np.ndarray, tuned: np.ndarray, prompt_set: str = "control") -> Drawn:
    return Drawn(tuple(map(str, range(len(base)))), prompt_set, base, tuned, None, None, "x", "1")  # type: ignore[arg-type]


def test_the_distance_is_one_minus_the_cosine_and_zero_for_equal_vectors() -> None:
    a, b = unit(50, 8), unit(50, 8, seed=1)
    np.testing.assert_allclose(cosine_distance(a, b), 1 - (a * b).sum(axis=1), atol=1e-6)
    assert not cosine_distance(a, a).any()


def test_the_floor_is_the_mean_over_all_pairs_of_seeds() -> None:
    images = unit(3, 4, 8)
    pairs = [1 - images[p, i] @ images[p, j] for p in range(3) for i in range(4) for j in range(i)]
    assert seed_floor(images) == pytest.approx(np.mean(pairs), abs=1e-6)


def test_a_model_that_draws_as_at_another_seed_drifts_by_one() -> None:
    base, tuned = unit(200, 4, 32), unit(200, 4, 32, seed=1)
    (result,) = measure(drawn(base, tuned))
    assert result.value == pytest.approx(1, abs=0.05)
    assert (result.of, result.direction, result.n) == ("ratio", "lower", 800)


def test_the_prompts_that_changed_are_told_apart() -> None:
    base = unit(4, 3, 8)
    tuned = base.copy()
    tuned[2] = unit(3, 8, seed=5)
    (result,) = measure(drawn(base, tuned))
    drifts = [row["drift"] for row in result.details["prompts"]]
    assert drifts[2] > 0
    assert drifts[:2] + drifts[3:] == [0, 0, 0]
    assert result.value == pytest.approx(np.mean(drifts))


def test_without_controls_or_a_second_seed_there_is_nothing_to_measure() -> None:
    assert measure(drawn(unit(4, 3, 8), unit(4, 3, 8), "target")) == []
    assert measure(drawn(unit(4, 1, 8), unit(4, 1, 8))) == []


def test_a_base_that_draws_one_picture_at_every_seed_gives_no_unit() -> None:
    base = np.repeat(unit(4, 1, 8), 3, axis=1)
    assert measure(drawn(base, unit(4, 3, 8, seed=2))) == []
