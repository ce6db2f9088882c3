"""What holds for every metric: no change measures zero, and what is stored can be read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brushwork import metrics, registry
from brushwork.metrics import Drawn, Result, find

RNG = np.random.default_rng(0)
WORDED = ("plain_texts", "style_texts", "whole_texts")


def unit(*shape: int) -> np.ndarray:
    vectors = RNG.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def drawn(base: np.ndarray, tuned: np.ndarray, prompt_set: str = "target") -> Drawn:
    prompts = tuple(f"prompt {index}" for index in range(len(base)))
    texts, plain, styled = unit(3, len(base), base.shape[-1])
    about = {
        "plain_texts": plain,
        "style_texts": styled,
        "whole_texts": styled,
        "words": ("ink", "engraving"),
        "preprocessing": "p",
    }
    return Drawn(prompts, prompt_set, base, tuned, texts, np.abs(unit(14, base.shape[-1])), "encoder", "1", **about)  # type: ignore[arg-type]


def features(name: str, prompts: int, seeds: int) -> np.ndarray:
    """Return what the metric reads: vectors, small grey pictures, words, probabilities, scores."""
    needs = registry.load("metrics", name).NEEDS
    if needs == "luminance":
        side = 176 if "ms" in name else 12
        return RNG.uniform(0, 255, (prompts, seeds, side, side + 2)).astype(np.float32)
    if needs == "captions":
        return RNG.choice(["a dog", "an engraving of a dog", "a cat in ink"], (prompts, seeds))
    if needs == "classes":
        return RNG.dirichlet(np.ones(8), (prompts, seeds))
    return RNG.normal(size=(prompts, seeds)) if needs == "score" else unit(prompts, seeds, 8)


def numbers(name: str) -> set[str]:
    """Return the names of a metric's numbers."""
    metric = registry.load("metrics", name)
    return {kind.name for kind in getattr(metric, "KINDS", (metric.KIND,))}


@pytest.mark.parametrize("name", registry.names("metrics"))
@pytest.mark.parametrize("prompt_set", ["target", "control"])
def test_a_model_that_did_not_change_measures_exactly_no_difference(name: str, prompt_set: str) -> None:
    base = features(name, 6, 4)
    results = registry.load("metrics", name).measure(drawn(base, base.copy(), prompt_set))
    for result in results:
        unchanged = {"same_seed_ssim": 1.0, "same_seed_ms_ssim": 1.0, "same_seed_psnr": 100.0}.get(name, 0.0)
        if result.of in ("difference", "ratio", "pairs"):
            assert result.value == pytest.approx(unchanged, abs=0.0 if unchanged == 0 else 1e-12)
            assert result.interval is None or result.interval == pytest.approx((unchanged, unchanged), rel=1e-12)
            assert result.p in (1.0, None)


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_results_are_json_and_come_back_equal(name: str) -> None:
    found = set()
    for prompt_set in ("target", "control"):
        for result in registry.load("metrics", name).measure(
            drawn(features(name, 5, 4), features(name, 5, 4), prompt_set)
        ):
            assert Result.from_dict(json.loads(json.dumps(result.to_dict()))) == result
            assert (result.encoder, result.revision, result.preprocessing) == ("encoder", "1", "p")
            assert result.n > 0
            found.add(result.name)
    assert found == numbers(name)


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_the_order_of_the_prompts_does_not_matter(name: str) -> None:
    order, measure = RNG.permutation(6), registry.load("metrics", name).measure
    for prompt_set in ("target", "control"):
        given = drawn(features(name, 6, 4), features(name, 6, 4), prompt_set)
        shuffled = replace(
            given,
            prompts=tuple(np.array(given.prompts)[order]),
            **{each: getattr(given, each)[order] for each in ("base", "tuned", "texts", *WORDED)},
        )
        for one, other in zip(measure(given), measure(shuffled), strict=True):
            assert one.value == pytest.approx(other.value, abs=1e-12)
            assert one.p == other.p or one.details.get("floor")  # random exchanges, in another order


@pytest.mark.parametrize("name", registry.names("metrics"))
def test_every_metric_says_what_it_needs_and_its_page_explains_it(name: str) -> None:
    assert registry.load("metrics", name).ASKS
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    assert [each for each in numbers(name) | {name} if f"`{each}`" not in page] == []


def test_no_metric_has_the_name_of_a_function_beside_it() -> None:
    """Importing ``metrics/NAME.py`` would put the module in the place of the function."""
    assert set(registry.names("metrics")) & set(metrics.__all__) == set()
    assert all(callable(getattr(metrics, name)) for name in metrics.__all__ if name.islower())


def test_find_returns_the_one_that_is_asked_for_or_none() -> None:
    results = registry.load("metrics", "clip").measure(drawn(unit(3, 2, 8), unit(3, 2, 8)))
    assert find(results, "clip", "tuned") is results[1]
    assert find(results, "clip", "tuned", "control") is None
