"""Precision, recall, density and coverage as their papers define them, picture by picture."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.errors import UserError
from brushwork.formulas import arrays
from brushwork.metrics import precision_recall_density_coverage as prdc

RNG = np.random.default_rng(2)


def by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    def reach(z: np.ndarray) -> list[float]:
        return [sorted(np.linalg.norm(z - a, axis=1))[k] for a in z]  # the nearest of all is itself

    across = np.linalg.norm(real[:, None] - fake[None], axis=2)
    in_real, in_fake = across < np.array(reach(real))[:, None], across < np.array(reach(fake))[None]
    return {
        "precision": in_real.any(axis=0).mean(),
        "recall": in_fake.any(axis=1).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(axis=1).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_equals_the_definition(k: int) -> None:
    real, fake = RNG.normal(size=(40, 3)), 0.7 * RNG.normal(size=(31, 3)) + 0.4
    assert prdc(real, fake, k) == pytest.approx(by_definition(real, fake, k), rel=1e-12)


def test_points_on_a_line_by_hand() -> None:
    # k = 1. Real 0, 1, 10 reach 1, 1, 9; drawn 0.5, 3, 30 reach 2.5, 2.5, 27.
    # 0.5 lies in the balls of 0 and 1, 3 in that of 10, 30 in none.
    found = prdc([[0.0], [1.0], [10.0]], [[0.5], [3.0], [30.0]], k=1)
    assert found == pytest.approx({"precision": 2 / 3, "recall": 1.0, "density": 1.0, "coverage": 1.0})


def test_the_same_set_is_precise_and_covered() -> None:
    same = RNG.normal(size=(60, 4)).astype(np.float32)
    found = prdc(same, same.copy())
    assert (found["precision"], found["recall"], found["coverage"]) == (1.0, 1.0, 1.0)
    assert found["density"] == pytest.approx(1.0)  # each ball holds its own centre and k - 1 others


def test_sets_far_apart_share_nothing() -> None:
    real = RNG.normal(size=(20, 4))
    assert set(prdc(real, real + 1e3).values()) == {0.0}


def test_one_picture_repeated_is_precise_but_covers_nothing() -> None:
    real = RNG.normal(size=(200, 4))
    found = prdc(real, np.tile(real.mean(axis=0), (50, 1)))
    assert found["precision"] == 1.0
    assert found["recall"] == 0.0
    assert found["coverage"] < 0.3


def test_order_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = RNG.normal(size=(30, 3)), RNG.normal(size=(25, 3))
    value = prdc(real, fake)
    assert prdc(RNG.permutation(real), RNG.permutation(fake)) == pytest.approx(value, rel=1e-12)
    monkeypatch.setattr(arrays, "AT_ONCE", 70)
    assert prdc(real, fake) == value


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="fake: this needs at least 6 rows"):
        prdc(RNG.normal(size=(20, 2)), RNG.normal(size=(5, 2)))
    with pytest.raises(UserError, match="k is a number of neighbours"):
        prdc(RNG.normal(size=(20, 2)), RNG.normal(size=(20, 2)), k=0)
