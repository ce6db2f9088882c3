"""What changed at the same seed, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.formulas.structure import psnr, ssim
from brushwork.metrics import Drawn
from brushwork.metrics.same_seed_psnr import measure as measure_psnr
from brushwork.metrics.same_seed_ssim import measure as measure_ssim

RNG = np.random.default_rng(0)
BASE = RNG.uniform(0, 255, (3, 2, 16, 18)).astype(np.float32)
TUNED = np.clip(BASE + 30 * RNG.normal(size=BASE.shape), 0, 255).astype(np.float32)


def drawn(base: np.ndarray, tuned: np.ndarray) -> Drawn:
    return Drawn(tuple(map(str, range(len(base)))), "control", base, tuned, None, None, "luminance", "1")


def test_the_value_is_the_mean_over_the_pairs() -> None:
    places = [(p, s) for p in range(3) for s in range(2)]
    (one,), (other,) = measure_ssim(drawn(BASE, TUNED)), measure_psnr(drawn(BASE, TUNED))
    assert one.value == pytest.approx(np.mean([ssim(BASE[at], TUNED[at], 255) for at in places]))
    assert other.value == pytest.approx(np.mean([psnr(BASE[at], TUNED[at], 255) for at in places]))
    assert (one.of, one.n, other.n) == ("pairs", 6, 6)
    assert one.details["other_seed"] == pytest.approx(np.mean([ssim(each[0], each[1], 255) for each in BASE]))
    assert one.value > one.details["other_seed"] + 0.2


def test_a_model_that_did_not_change_has_one_and_a_hundred_decibels() -> None:
    (one,), (other,) = measure_ssim(drawn(BASE, BASE.copy())), measure_psnr(drawn(BASE, BASE.copy()))
    assert (one.value, one.interval) == (1.0, (1.0, 1.0))
    assert (other.value, other.interval) == (100.0, (100.0, 100.0))
    assert other.details["equal_pictures"] == 6


def test_pictures_smaller_than_the_window_have_no_ssim_but_a_psnr() -> None:
    small = BASE[..., :10, :]
    assert measure_ssim(drawn(small, small)) == []
    assert measure_psnr(drawn(small, small))


def test_a_single_seed_has_nothing_to_be_read_beside() -> None:
    (result,) = measure_ssim(drawn(BASE[:, :1], TUNED[:, :1]))
    assert result.details["other_seed"] is None
