"""Diversity and the Vendi score are of one prompt's seeds, and collapse when every seed gives the same picture."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork import registry
from brushwork.metrics import Drawn, find

SEEDS = np.eye(4)


def drawn(base: np.ndarray, tuned: np.ndarray) -> Drawn:
    return Drawn(tuple(map(str, range(len(base)))), "target", base, tuned, None, None, "x", "1")


@pytest.mark.parametrize(("name", "all_different", "all_equal"), [("vendi", 4.0, 1.0), ("diversity", 1.0, 0.0)])
def test_a_model_that_draws_one_picture_at_every_seed_has_collapsed(
    name: str, all_different: float, all_equal: float
) -> None:
    base = np.stack([SEEDS] * 6)
    results = registry.load("metrics", name).measure(drawn(base, np.repeat(base[:, :1], 4, axis=1)))
    values = [find(results, name, of) for of in ("base", "tuned", "difference")]
    assert [each.value for each in values if each] == pytest.approx(
        [all_different, all_equal, all_equal - all_different]
    )
    assert [(each.n, each.direction) for each in values if each] == [(24, "higher")] * 3
    assert results[2].p == results[2].smallest_p == 0.03125


@pytest.mark.parametrize("name", ["vendi", "diversity"])
def test_pictures_of_different_prompts_do_not_count_as_diverse(name: str) -> None:
    same_within = np.repeat(SEEDS[:, None], 3, axis=1)
    results = registry.load("metrics", name).measure(drawn(same_within, same_within))
    assert results[0].value == pytest.approx({"vendi": 1.0, "diversity": 0.0}[name])


@pytest.mark.parametrize("name", ["vendi", "diversity"])
def test_a_single_seed_has_no_diversity(name: str) -> None:
    assert registry.load("metrics", name).measure(drawn(SEEDS[:, None], SEEDS[:, None])) == []
