"""A tuned model that draws its training pictures is caught, and which pictures is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from brushwork.metrics import Drawn, find
from brushwork.metrics.memorisation import measure

RNG = np.random.default_rng(0)


def unit(*shape: int) -> np.ndarray:
    vectors = RNG.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


TRAINING = unit(40, 32)
BASE = unit(6, 4, 32)
GIVEN = Drawn(tuple("abcdef"), "target", BASE, BASE.copy(), None, TRAINING, "x", "1")


def test_training_pictures_among_the_drawn_are_flagged_and_named() -> None:
    tuned = unit(6, 4, 32)
    tuned[:, 1] = TRAINING[:6]
    results = measure(replace(GIVEN, tuned=tuned))
    base, after, change = (find(results, "memorisation", of) for of in ("base", "tuned", "difference"))
    assert base is not None
    assert after is not None
    assert change is not None
    assert after.value >= 0.25 > base.value
    assert after.value - base.value == change.value
    closest = after.details["closest"][:6]
    assert {(each["prompt"], each["seed"], each["training"]) for each in closest} == {
        (prompt, 1, place) for place, prompt in enumerate("abcdef")
    }
    assert all(each["flagged"] and each["similarity"] > 0.999 for each in closest)
    assert (after.details["training_pictures"], after.n) == (40, 24)
    assert change.p == 0.03125


def test_a_mirrored_copy_is_found_where_training_flipped() -> None:
    mirrored = unit(40, 32)
    tuned = BASE.copy()
    tuned[2, 3] = mirrored[7]
    results = measure(replace(GIVEN, tuned=tuned, mirrored=mirrored))
    first = results[1].details["closest"][0]
    assert (first["prompt"], first["seed"], first["training"], first["mirrored"]) == ("c", 3, 7, True)


def test_without_training_pictures_nothing_is_said() -> None:
    assert measure(replace(GIVEN, references=None)) == []
