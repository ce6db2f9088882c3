"""Metrics that read: captions, prompts found again, directions, scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from brushwork.metrics import Drawn, find, summarise_similarity
from brushwork.metrics.caption_faithfulness import measure as faithfulness
from brushwork.metrics.caption_hits import measure as hits
from brushwork.metrics.clip import measure as clip
from brushwork.metrics.clip_i import measure as clip_i
from brushwork.metrics.direction import measure as direction
from brushwork.metrics.pickscore import measure as pickscore
from brushwork.metrics.retrieval import measure as retrieval
from brushwork.metrics.technical import measure as technical
from brushwork.statistics import mcnemar_test, wilson_interval

RNG = np.random.default_rng(5)


def unit(*shape: int) -> np.ndarray:
    vectors = RNG.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


TEXTS = unit(5, 8)
GIVEN = Drawn(tuple("abcde"), "target", unit(5, 3, 8), unit(5, 3, 8), TEXTS, unit(6, 8), "x", "1")


def test_caption_hits_are_rates_with_wilsons_intervals_and_mcnemars_p() -> None:
    base, tuned = np.full((5, 3), "a dog", dtype="<U30"), np.full((5, 3), "an engraving of a dog")
    base[0] = "an engraving"
    tuned[0, 0] = "a dog"
    before, after, change = hits(replace(GIVEN, base=base, tuned=tuned, words=("engraving",)))
    assert (before.value, after.value) == pytest.approx((3 / 15, 14 / 15))
    assert before.interval == wilson_interval(3, 15)
    assert (change.details["gained"], change.details["lost"]) == (12, 1)
    assert change.p == mcnemar_test(12, 1)
    assert change.smallest_p == mcnemar_test(13, 0)
    assert change.details["p_over_prompts"] == 0.125  # five prompts, one of which went the other way a little
    assert after.details["captions"][:2] == ["a dog", "an engraving of a dog"]
    assert hits(replace(GIVEN, base=base, tuned=tuned)) == []  # no words to look for


def test_faithfulness_and_clip_are_cosines_with_the_own_prompt() -> None:
    expected = float(np.einsum("pnd,pd->pn", GIVEN.tuned, TEXTS).mean())
    for measure in (faithfulness, clip):
        assert measure(GIVEN)[1].value == pytest.approx(expected, abs=1e-6)
        assert measure(replace(GIVEN, texts=None)) == []


def test_clip_names_the_two_common_scalings() -> None:
    cosines = np.einsum("pnd,pd->pn", GIVEN.tuned.astype(float), TEXTS.astype(float))
    details = clip(GIVEN)[1].details
    assert details["percent"] == pytest.approx(100 * np.maximum(cosines, 0).mean())
    assert details["hessel"] == pytest.approx(2.5 * np.maximum(cosines, 0).mean())


def test_pickscore_is_scaled_and_counts_the_pictures_that_would_be_picked() -> None:
    ahead = replace(GIVEN, tuned=np.repeat(TEXTS[:, None], 3, axis=1), scale=100.0)
    before, after, change = pickscore(ahead)
    assert after.value == pytest.approx(100, abs=1e-4)
    assert change.value == pytest.approx(after.value - before.value)
    assert change.details["share_picked"] == 1.0
    assert pickscore(replace(GIVEN, tuned=GIVEN.base))[2].details["share_picked"] == 0.5


def test_pictures_of_their_prompts_are_found_and_one_picture_for_all_is_not() -> None:
    alike = np.tile(unit(8), (5, 3, 1))
    results = retrieval(replace(GIVEN, base=alike, tuned=np.repeat(TEXTS[:, None], 3, axis=1)))
    values = {(each.name, each.of): each.value for each in results}
    assert (values["top1", "tuned"], values["mrr", "tuned"]) == (1.0, 1.0)
    assert values["top1", "base"] == pytest.approx(1 / 5)
    assert values["gap", "base"] == pytest.approx(0, abs=1e-6)
    assert retrieval(replace(GIVEN, prompts=("a",), base=alike[:1], tuned=alike[:1], texts=TEXTS[:1])) == []


def test_retrieval_is_the_summary_of_the_whole_matrix() -> None:
    results = retrieval(GIVEN)
    whole = summarise_similarity(GIVEN.tuned.reshape(-1, 8).astype(float) @ TEXTS.T.astype(float))
    for name in ("gap", "top1", "mrr"):
        found = find(results, name, "tuned")
        assert found is not None
        assert found.value == pytest.approx(getattr(whole, name), abs=1e-6)
    gap = find(results, "gap", "tuned")
    assert gap is not None
    assert np.array(gap.details["matrix"]).shape == (5, 5)
    assert gap.details["diagonal"] == pytest.approx(whole.diagonal, abs=1e-4)


def test_shuffled_prompts_lower_clip_and_retrieval() -> None:
    """Pictures near their prompts, then the same pictures with the prompts of others."""
    near = TEXTS[:, None] + 0.2 * unit(5, 3, 8)
    given = replace(GIVEN, base=near[[1, 2, 3, 4, 0]], tuned=near)
    assert clip(given)[2].value > 0.3
    assert all(each.value > 0 for each in retrieval(given) if each.of == "difference")


def test_the_direction_is_one_where_pictures_moved_as_the_texts_did() -> None:
    """In the plane: both turn from the first axis to the second."""
    base, tuned = np.zeros((2, 5, 3, 8), np.float32)
    base[..., 0], tuned[..., 1] = 1, 1
    given = replace(GIVEN, base=base, tuned=tuned, plain_texts=base[:, 0], style_texts=tuned[:, 0])
    (result,) = direction(given)
    assert result.value == pytest.approx(1)
    assert direction(replace(given, plain_texts=tuned[:, 0], style_texts=base[:, 0]))[0].value == pytest.approx(-1)
    assert direction(replace(given, tuned=base))[0].value == 0.0
    assert direction(GIVEN) == []  # no words for a style


def test_clip_i_has_the_references_among_themselves_as_its_ceiling() -> None:
    copies = replace(GIVEN, tuned=GIVEN.references[[[0, 1, 2]] * 5])  # type: ignore[index]
    before, after, _, ceiling = clip_i(copies)
    assert after.value > ceiling.value  # copies score higher than the references themselves
    assert after.value > before.value
    assert ceiling.of == "data"
    assert clip_i(replace(GIVEN, prompt_set="control")) == clip_i(replace(GIVEN, references=None)) == []


def test_technical_checks_flag_flat_and_clipped_pictures() -> None:
    fine, flat = np.array([0.1, 0.2, 0.05]), np.array([1.0, 0.0, 0.0])
    base, tuned = np.tile(fine, (5, 3, 1)), np.tile(fine, (5, 3, 1))
    tuned[0, 0] = flat
    results = technical(replace(GIVEN, base=base, tuned=tuned, references=np.tile(fine, (4, 1))))
    values = {(each.name, each.of): each.value for each in results}
    assert (values["blank", "base"], values["blank", "tuned"]) == (0, pytest.approx(1 / 15))
    assert values["clipped", "tuned"] == pytest.approx((14 * 0.1 + 1) / 15)
    assert values["sharpness", "data"] == pytest.approx(0.05)
