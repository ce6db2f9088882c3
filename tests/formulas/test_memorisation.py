"""Copies of training pictures are found, new pictures are not."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.errors import UserError
from brushwork.formulas import arrays
from brushwork.metrics import find_copies

RNG = np.random.default_rng(6)
TRAINING = RNG.normal(size=(60, 16)) + 1
NEW = RNG.normal(size=(100, 16)) + 1


def test_copies_among_the_drawn_are_caught_and_named() -> None:
    drawn = np.concatenate([NEW[:20], TRAINING[[7, 31]] + 0.01])
    found = find_copies(drawn, TRAINING)
    assert found.nearest[-2:].tolist() == [7, 31]
    assert found.flagged[-2:].all()
    assert found.share < 0.25


def test_new_pictures_are_flagged_about_as_often_as_the_quantile_leaves() -> None:
    drawn = RNG.normal(size=(2000, 16)) + 1
    assert find_copies(drawn, TRAINING).share == pytest.approx(0.05, abs=0.06)


def test_the_threshold_is_the_quantile_of_the_nearest_others() -> None:
    unit = TRAINING / np.linalg.norm(TRAINING, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(60)
    found = find_copies(NEW, TRAINING, quantile=0.9)
    assert found.threshold == pytest.approx(np.quantile(cosines.max(axis=1), 0.9), rel=1e-12)
    assert (found.flagged == (found.similarity > found.threshold)).all()


def test_a_mirrored_copy_is_found_only_when_mirrored_pictures_are_looked_at() -> None:
    flip = np.linalg.qr(RNG.normal(size=(16, 16)))[0]
    mirrored = (TRAINING - 1) @ flip + 1
    found = find_copies(mirrored[[4]], TRAINING, mirrored=mirrored)
    assert found.flagged.all()
    assert found.is_mirrored.tolist() == [True]
    assert found.nearest.tolist() == [4]
    assert not find_copies(mirrored[[4]], TRAINING).similarity[0] > 0.999


def test_a_picture_that_is_its_own_mirror_image_does_not_raise_the_threshold() -> None:
    assert find_copies(NEW, TRAINING, mirrored=TRAINING * 0.999999).threshold < 0.999
    near = TRAINING + 1e-2 * RNG.normal(size=TRAINING.shape)  # mirrored, nearly the same
    plain = find_copies(NEW, TRAINING).threshold
    assert find_copies(NEW, TRAINING, mirrored=near).threshold == pytest.approx(plain, abs=0.01)


def test_training_pictures_that_occur_twice_do_not_hide_copies() -> None:
    twice = np.concatenate([TRAINING, TRAINING])
    assert find_copies(NEW, twice).threshold == find_copies(NEW, TRAINING).threshold
    assert find_copies(TRAINING[:3], twice).flagged.all()


def test_with_one_training_picture_only_that_picture_is_a_copy() -> None:
    found = find_copies(np.stack([TRAINING[0], NEW[0]]), np.tile(TRAINING[0], (4, 1)))
    assert found.threshold == 1.0
    assert found.flagged.tolist() == [True, False]


def test_order_and_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_copies(NEW, TRAINING)
    order = RNG.permutation(60)
    shuffled = find_copies(NEW, TRAINING[order])
    assert order[shuffled.nearest].tolist() == found.nearest.tolist()
    assert shuffled.threshold == pytest.approx(found.threshold, rel=1e-12)
    monkeypatch.setattr(arrays, "AT_ONCE", 200)
    np.testing.assert_allclose(find_copies(NEW, TRAINING).similarity, found.similarity, rtol=1e-12)


def test_wrong_shapes_and_quantiles_are_refused() -> None:
    with pytest.raises(UserError, match="quantile must lie"):
        find_copies(NEW, TRAINING, quantile=1.0)
    with pytest.raises(UserError, match="only equal shapes"):
        find_copies(NEW, TRAINING, mirrored=TRAINING[:5])
