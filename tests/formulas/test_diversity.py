"""Vendi score and pairwise diversity count different pictures, and collapse when there is only one."""

from __future__ import annotations

import numpy as np
import pytest

from brushwork.errors import UserError
from brushwork.metrics import pairwise_diversity, vendi_score

RNG = np.random.default_rng(3)


def test_groups_of_equal_pictures_count_once_each() -> None:
    assert vendi_score(np.repeat(np.eye(5), 4, axis=0)) == pytest.approx(5, rel=1e-12)


def test_groups_of_unequal_size_count_by_their_entropy() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert vendi_score(np.repeat(np.eye(3), [5, 3, 2], axis=0)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (1, 4)])
def test_it_is_the_entropy_of_the_eigenvalues_of_the_cosines(shape: tuple[int, int]) -> None:
    features = RNG.normal(size=shape)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(unit))
    values = values[values > 1e-14]
    assert vendi_score(features) == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-9)


def test_pairwise_diversity_is_one_minus_the_mean_cosine_of_the_pairs() -> None:
    features = RNG.normal(size=(9, 5)) + 1
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    pairs = [1 - unit[j] @ unit[k] for k in range(9) for j in range(k)]
    assert pairwise_diversity(features) == pytest.approx(np.mean(pairs), rel=1e-12)


def test_one_picture_repeated_collapses_both() -> None:
    features = np.tile(RNG.normal(size=16), (13, 1))
    assert vendi_score(features) == pytest.approx(1, abs=1e-12)
    assert pairwise_diversity(features) == 0.0


def test_opposite_pictures_are_as_diverse_as_can_be() -> None:
    assert pairwise_diversity([[1.0, 0.0], [-2.0, 0.0]]) == pytest.approx(2)


def test_order_and_length_of_the_vectors_do_not_matter() -> None:
    features = RNG.normal(size=(12, 6))
    stretched = RNG.permutation(features) * 3
    assert vendi_score(stretched) == pytest.approx(vendi_score(features), rel=1e-12)
    assert pairwise_diversity(stretched) == pytest.approx(pairwise_diversity(features), rel=1e-12)


def test_what_has_no_cosine_is_refused() -> None:
    with pytest.raises(UserError, match="row 1 is zero"):
        vendi_score([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(UserError, match="at least 2 rows"):
        pairwise_diversity([[1.0, 0.0]])
