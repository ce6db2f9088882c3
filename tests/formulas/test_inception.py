"""The Inception Score of tables whose score is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from brushwork.errors import UserError
from brushwork.metrics import inception_score


def test_one_sure_class_each_gives_the_number_of_classes() -> None:
    assert inception_score(np.eye(7)) == (pytest.approx(7, rel=1e-14), 0.0)


def test_no_idea_and_always_the_same_class_give_one() -> None:
    assert inception_score(np.full((10, 4), 0.25)).mean == pytest.approx(1, rel=1e-14)
    assert inception_score(np.tile([1.0, 0.0], (10, 1))).mean == 1.0


def test_two_classes_by_hand() -> None:
    expected = np.exp(0.9 * np.log(1.8) + 0.1 * np.log(0.2))
    assert inception_score([[0.9, 0.1], [0.1, 0.9]]).mean == pytest.approx(expected, rel=1e-14)


def test_it_equals_scipys_relative_entropy() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(6), 40)
    entropies = [scipy.stats.entropy(row, p.mean(axis=0)) for row in p]
    assert inception_score(p).mean == pytest.approx(np.exp(np.mean(entropies)), rel=1e-12)


def test_splits_are_consecutive_and_their_deviation_is_that_of_the_population() -> None:
    table = np.concatenate([np.eye(2), np.tile([1.0, 0.0], (2, 1))])  # scores 2 and 1
    assert inception_score(table, splits=2) == pytest.approx((1.5, 0.5), rel=1e-14)
    in_order = np.repeat(np.eye(2), 2, axis=0)  # each half of one class; nothing is shuffled
    assert inception_score(in_order, splits=2) == (1.0, 0.0)
    assert inception_score(in_order[[0, 2, 1, 3]], splits=2) == pytest.approx((2.0, 0.0))


def test_splits_that_do_not_divide_the_rows_use_every_row() -> None:
    p = np.random.default_rng(1).dirichlet(np.ones(3), 10)
    parts = [inception_score(p[a:b]).mean for a, b in ((0, 3), (3, 6), (6, 10))]
    assert inception_score(p, splits=3) == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


@pytest.mark.parametrize(
    ("bad", "splits", "words"),
    [
        ([[2.0, -1.0]], 1, "Logits need a softmax"),
        ([[0.5, 0.4]], 1, "sums to 0.9"),
        ([[0.5, 0.5]], 2, "splits must lie between 1 and the number of pictures, 1"),
        ([[0.5, np.nan]], 1, "only finite"),
        ([0.5, 0.5], 1, "needs a table"),
    ],
)
def test_what_is_no_table_of_probabilities_is_refused(bad: object, splits: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        inception_score(bad, splits)  # type: ignore[arg-type]
