"""Similarities of pictures with texts, with changes of texts, and with references."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.errors import UserError
from brushwork.metrics import (
    clip_score,
    directional_similarity,
    leakage,
    reference_ceiling,
    reference_similarity,
    similarity_matrix,
    summarise_similarity,
)

RNG = np.random.default_rng(5)


def at(*degrees: float) -> np.ndarray:
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=-1)


def test_the_matrix_holds_cosines_whatever_the_lengths() -> None:
    np.testing.assert_allclose(
        similarity_matrix(3 * at(0, 90), 0.1 * at(0, 60, 180)), [[1, 0.5, -1], [0, np.sqrt(3) / 2, 0]], atol=1e-15
    )


def test_a_summary_by_hand() -> None:
    matrix = [[0.9, 0.1, 0.2], [0.5, 0.4, 0.3], [0.6, 0.5, 0.1]]  # ranks of the own text: 1, 2, 3
    found = summarise_similarity(matrix)
    assert found.diagonal == pytest.approx(1.4 / 3)
    assert found.off_diagonal == pytest.approx(2.2 / 6)
    assert found.gap == pytest.approx(1.4 / 3 - 2.2 / 6)
    assert found.top1 == pytest.approx(1 / 3)
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_several_pictures_of_each_text_come_together_or_are_named() -> None:
    matrix = np.array([[0.9, 0.1], [0.2, 0.3], [0.1, 0.8], [0.4, 0.6]])
    assert summarise_similarity(matrix).top1 == 0.75
    order = [2, 0, 3, 1]
    assert summarise_similarity(matrix[order], own=[1, 0, 1, 0]) == pytest.approx(summarise_similarity(matrix))


def test_a_model_that_draws_one_picture_for_every_text_is_not_credited_with_ties() -> None:
    found = summarise_similarity(np.full((4, 4), 0.3))
    assert found.top1 == 0.25
    assert found.gap == pytest.approx(0, abs=1e-15)
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    every_picture_the_same = similarity_matrix(np.tile(RNG.normal(size=8), (5, 1)), RNG.normal(size=(5, 8)))
    assert summarise_similarity(every_picture_the_same).top1 == pytest.approx(0.2)


def test_shuffled_texts_lower_the_diagonal() -> None:
    texts = RNG.normal(size=(6, 32))
    images = np.repeat(texts, 3, axis=0) + RNG.normal(size=(18, 32))
    straight = summarise_similarity(similarity_matrix(images, texts))
    shuffled = summarise_similarity(similarity_matrix(images, np.roll(texts, 1, axis=0)))
    assert straight.gap > 0.5 > shuffled.gap
    assert (straight.top1, shuffled.top1) == (1.0, 0.0)


def test_one_text_has_no_others() -> None:
    found = summarise_similarity([[0.4], [0.6]])
    assert (found.diagonal, found.top1, found.mrr) == (0.5, 1.0, 1.0)
    assert np.isnan(found.off_diagonal)


def test_pictures_that_belong_to_no_text_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be 2 texts' in equal parts"):
        summarise_similarity(np.zeros((3, 2)))
    with pytest.raises(UserError, match="one number from 0 to 1"):
        summarise_similarity(np.zeros((3, 2)), own=[0, 1, 2])


def test_the_conventions_of_clip_score_are_named() -> None:
    cosines = [0.3, -0.1]
    assert clip_score(cosines).tolist() == cosines
    assert clip_score(cosines, "percent") == pytest.approx([30, 0])
    assert clip_score(cosines, "hessel") == pytest.approx([0.75, 0])
    with pytest.raises(UserError, match="there are cosine, percent and hessel, but not 'x'"):
        clip_score(cosines, "x")


def test_a_change_along_the_change_of_the_text_is_one_and_against_it_minus_one() -> None:
    base, texts = at(10), (at(40), at(41))
    assert directional_similarity(base, at(11), *texts) == pytest.approx([np.cos(np.radians(30))])
    assert directional_similarity(at(40), at(41), *texts) == pytest.approx([1])
    assert directional_similarity(at(41), at(40), *texts) == pytest.approx([-1])


def test_a_picture_that_did_not_change_has_no_direction() -> None:
    images = RNG.normal(size=(5, 4))
    texts = RNG.normal(size=(1, 4)), RNG.normal(size=(1, 4))
    assert directional_similarity(images, images.copy(), *texts).tolist() == [0.0] * 5
    with pytest.raises(UserError, match="text 0 is the same before and after"):
        directional_similarity(images, images, texts[0], texts[0])
    with pytest.raises(UserError, match="do not belong"):
        directional_similarity(images, images, np.tile(texts[0], (2, 1)), np.tile(texts[1], (2, 1)))


def test_reference_similarity_is_the_mean_over_all_pairs_and_its_ceiling_leaves_one_out() -> None:
    images, references = RNG.normal(size=(4, 6)), RNG.normal(size=(5, 6)) + 1

    def cos(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    expected = [np.mean([cos(image, each) for each in references]) for image in images]
    np.testing.assert_allclose(reference_similarity(images, references), expected, atol=1e-14)
    pairs = [cos(references[j], references[k]) for k in range(5) for j in range(k)]
    assert reference_ceiling(references) == pytest.approx(np.mean(pairs), abs=1e-14)


def test_leakage_is_zero_without_change_and_rises_towards_the_references() -> None:
    base, references = RNG.normal(size=(6, 8)), RNG.normal(size=(3, 8)) * 0.1 + 1
    assert not leakage(base, base.copy(), references).any()
    assert (leakage(base, base + 1, references) > 0).all()
    with pytest.raises(UserError, match="only equal shapes"):
        leakage(base, base[:4], references)
