"""What holds for every metric: no change measures zero, and what is stored can be read again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from brushwork import metrics, registry
from brushwork.metrics import Drawn, Result, find

RNG = np.random.default_rng(0)
MAY_BE_SILENT = {"clip_styled"}
"""Where there are no words of a style."""


def unit(*shape: int) -> np.ndarray:
    vectors = RNG.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def drawn(base: np.ndarray, tuned: np.ndarray, prompt_set: str = "target") -> Drawn:
    prompts = tuple(f"prompt {index}" for index in range(len(base)))
    texts = unit(len(base), base.shape[-1])
    return Drawn(prompts, prompt_set, base, tuned, texts, np.abs(unit(10, base.shape[-1])), "encoder", "1")  # type: ignore[arg-type]


def features(name: str, prompts: int, seeds: int) -> np.ndarray:
    """Return what the metric reads: vectors, or small grey pictures."""
    if registry.load("metrics", name).NEEDS == "luminance":
        return RNG.uniform(0, 255, (prompts, seeds, 12, 14)).astype(np.float32)
    return unit(prompts, seeds, 8)


@pytest.mark.parametrize("name", registry.names("metrics"))
@pytest.mark.parametrize("prompt_set", ["target", "control"])
def test_a_model_that_did_not_change_measures_exactly_no_difference(name: str, prompt_set: str) -> None:
    base = features(name, 6, 4)
    results = registry.load("metrics", name).measure(drawn(base, base.copy(), prompt_set))
    for result in results:
        if result.of in ("difference", "ratio"):
            assert result.value == 0.0
            assert result.interval == (0.0, 0.0)
            assert result.p in (1.0, None)


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_results_are_json_and_come_back_equal(name: str) -> None:
    results = registry.load("metrics", name).measure(drawn(features(name, 5, 4), features(name, 5, 4), "control"))
    assert results or name in MAY_BE_SILENT
    for result in results:
        assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result
        assert result.name == name


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_the_order_of_the_prompts_does_not_matter(name: str) -> None:
    given = drawn(features(name, 6, 4), features(name, 6, 4), "control")
    order = RNG.permutation(6)
    shuffled = Drawn(
        tuple(np.array(given.prompts)[order]), "control", given.base[order], given.tuned[order],
        given.texts[order], given.references, "encoder", "1",  # type: ignore[index]
    )  # fmt: skip
    measure = registry.load("metrics", name).measure
    for one, other in zip(measure(given), measure(shuffled), strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)
        assert one.p == other.p


def test_no_metric_has_the_name_of_a_function_beside_it() -> None:
    """Importing ``metrics/NAME.py`` would put the module in the place of the function."""
    assert set(registry.names("metrics")) & set(metrics.__all__) == set()
    assert all(callable(getattr(metrics, name)) for name in metrics.__all__ if name.islower())


def test_find_returns_the_one_that_is_asked_for_or_none() -> None:
    results = registry.load("metrics", "clip").measure(drawn(unit(3, 2, 8), unit(3, 2, 8)))
    assert find(results, "clip", "tuned") is results[1]
    assert find(results, "clip", "tuned", "control") is None
