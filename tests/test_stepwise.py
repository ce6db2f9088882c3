"""Pictures drawn together, step by step, with settings of their own, are those of ``generate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from brushwork import families, generate
from brushwork.stepwise import Drawing, advance

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.values import Family

LAST_BITS = 1
"""So far may a pixel of 0 to 255 be off: a matrix product of more rows rounds otherwise."""


@pytest.fixture(scope="module")
def family(tiny_sd: Path) -> Family:
    return families.load(str(tiny_sd))


def alone(family: Family, request: generate.Request) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(next(generate.draw(family, [request])).image, int)


REQUESTS = [
    generate.Request("a cat", seed=1, steps=4, sampler="Euler a", guidance_scale=5, width=32, height=32),
    generate.Request("a dog", "a cat", seed=2, steps=6, sampler="DPM++ 2M", guidance_scale=3, width=32, height=32),
    generate.Request("a tree", seed=3, steps=3, sampler="DDIM", guidance_scale=1, width=32, height=32),
    generate.Request("a house", seed=4, steps=5, sampler="Heun", guidance_scale=2, width=48, height=32),
    generate.Request(
        "a cat", seed=5, steps=6, sampler="Euler", width=32, height=32, init=Image.new("RGB", (32, 32), "red"),
        mask=Image.new("L", (32, 32), 0), strength=0.5,
    ),
]  # fmt: skip


def test_mixed_settings_together_are_each_the_picture_of_generate(family: Family) -> None:
    drawings = [Drawing(family, each) for each in REQUESTS]
    looks = 0
    while not all(each.done for each in drawings):
        advance(family, [each for each in drawings if not each.done], at_once=4)
        looks += 1
    assert looks == max(each.total for each in drawings)
    for request, drawing in zip(REQUESTS, drawings, strict=True):
        assert np.abs(np.asarray(drawing.image(), int) - alone(family, request)).max() <= LAST_BITS


def test_a_picture_that_joins_late_and_one_that_leaves_do_not_disturb(family: Family) -> None:
    first, second = (Drawing(family, each) for each in REQUESTS[:2])
    advance(family, [first])
    advance(family, [first, second])
    while not second.done:
        advance(family, [second])
    assert not first.done
    while not first.done:
        advance(family, [first])
    for request, drawing in zip(REQUESTS, (first, second), strict=False):
        assert np.abs(np.asarray(drawing.image(), int) - alone(family, request)).max() <= LAST_BITS
