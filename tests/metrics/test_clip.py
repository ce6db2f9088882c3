"""CLIP-T is the raw cosine, averaged per prompt, paired per seed."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.metrics import Drawn, find
from brushwork.metrics.clip import measure, prompt_similarity


def at(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=-1).astype(np.float32)


TEXTS = at(0, 90)
BASE = np.stack([at(60, 60), at(90, 30)])  # cosines .5 .5 / 1 .5
TUNED = np.stack([at(0, 60), at(90, 90)])  # cosines 1 .5 / 1 1


def test_each_picture_is_compared_with_its_own_prompt() -> None:
    np.testing.assert_allclose(prompt_similarity(BASE, TEXTS), [[0.5, 0.5], [1, 0.5]], atol=1e-6)


def test_negative_cosines_are_kept() -> None:
    np.testing.assert_allclose(prompt_similarity(at(180)[None], at(0)), [[-1]], atol=1e-6)


def test_base_tuned_and_difference_are_the_hand_computed_ones() -> None:
    results = measure(Drawn(("a", "b"), "target", BASE, TUNED, TEXTS, None, "x", "1"))
    base, tuned, difference = (find(results, "clip", of) for of in ("base", "tuned", "difference"))
    assert base is not None
    assert tuned is not None
    assert difference is not None
    assert (base.value, tuned.value, difference.value) == pytest.approx((0.625, 0.875, 0.25), abs=1e-6)
    assert difference.interval == pytest.approx((0.25, 0.25), abs=1e-6)
    assert (difference.n, difference.p, difference.smallest_p) == (4, 0.5, 0.5)
    assert difference.details["share_of_prompts_higher"] == 1.0
    assert [row["prompt"] for row in difference.details["prompts"]] == ["a", "b"]


def test_pictures_under_the_wrong_prompts_score_lower() -> None:
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(8, 16))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images = texts[:, None] + 0.1 * rng.normal(size=(8, 4, 16))
    images /= np.linalg.norm(images, axis=2, keepdims=True)
    assert prompt_similarity(images, texts).mean() > prompt_similarity(images, np.roll(texts, 1, axis=0)).mean() + 0.5


def test_one_prompt_has_no_interval_and_says_nothing_for_certain() -> None:
    results = measure(Drawn(("a",), "target", BASE[:1], TUNED[:1], TEXTS[:1], None, "x", "1"))
    assert all(result.interval is None for result in results)
    assert results[2].p == 1.0


def test_an_encoder_without_texts_measures_nothing() -> None:
    assert measure(Drawn(("a", "b"), "target", BASE, TUNED, None, None, "x", "1")) == []
