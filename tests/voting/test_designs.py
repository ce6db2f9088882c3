"""Who meets whom, in which order and on which side, is balanced and follows from the seed."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from brushwork.voting.designs import SHEETS, Meeting, pairings, rounds, sheets


@pytest.mark.parametrize("models", [2, 3, 4, 5, 8])
def test_in_a_tournament_all_pairs_meet_once_and_nobody_twice_in_a_round(models: int) -> None:
    played = rounds(models)
    met = [couple for each in played for couple in each]
    assert sorted(met) == list(itertools.combinations(range(models), 2))
    for each in played:
        names = [name for couple in each for name in couple]
        assert len(names) == len(set(names))


def test_all_lets_every_pair_meet_on_every_cell() -> None:
    assert sorted(pairings(3, 4, "all")) == [
        Meeting(cell, one, other) for cell in range(4) for one, other in itertools.combinations(range(3), 2)
    ]
    assert pairings(3, 4) == pairings(3, 4, "all")


@pytest.mark.parametrize(("models", "cells"), [(4, 12), (5, 15), (6, 10)])
def test_balanced_shows_each_pair_of_models_equally_often(models: int, cells: int) -> None:
    meetings = pairings(models, cells, "balanced")
    couples = Counter((each.one, each.other) for each in meetings)
    assert len(couples) == models * (models - 1) // 2
    assert max(couples.values()) - min(couples.values()) <= 1
    shown = Counter((each.cell, name) for each in meetings for name in (each.one, each.other))
    assert max(shown.values()) == 1, "a model is seen once for each prompt"
    assert pairings(models, cells) == meetings


def test_a_cut_keeps_all_pairs_of_models_and_takes_prompts_evenly() -> None:
    meetings = pairings(3, 6, "all", most=9)
    couples = Counter((each.one, each.other) for each in meetings)
    assert couples == {(0, 1): 3, (0, 2): 3, (1, 2): 3}
    assert max(Counter(each.cell for each in meetings).values()) == 2


def test_each_sheet_shows_every_pair_and_a_tenth_again_with_exchanged_sides() -> None:
    for sheet in sheets(30, seed=4):
        first = [trial for trial in sheet if not trial.repeat]
        again = [trial for trial in sheet if trial.repeat]
        assert sorted(trial.pair for trial in first) == list(range(30))
        assert len(again) == 3
        places = {trial.pair: (place, trial.left) for place, trial in enumerate(sheet) if not trial.repeat}
        for place, trial in enumerate(sheet):
            if trial.repeat:
                before, left = places[trial.pair]
                assert trial.left == 1 - left
                assert place - before >= 5, "nobody sees a pair again at once"
        assert sum(trial.left for trial in first) == 15, "each picture stands left in half of the pairs"


def test_sheets_come_in_couples_with_exchanged_sides_and_all_orders_differ() -> None:
    every = list(sheets(20, seed=0))
    sides = [{trial.pair: trial.left for trial in sheet if not trial.repeat} for sheet in every]
    for one, other in zip(sides[::2], sides[1::2], strict=True):
        assert all(one[pair] == 1 - other[pair] for pair in one)
    assert len({tuple(trial.pair for trial in sheet) for sheet in every}) == SHEETS


def test_the_same_seed_gives_the_same_sheets_and_another_seed_others() -> None:
    assert list(sheets(12, seed=1)) == list(sheets(12, seed=1))
    assert list(sheets(12, seed=1)) != list(sheets(12, seed=2))


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_few_pairs_make_sheets_too(pairs: int) -> None:
    for sheet in sheets(pairs, seed=0):
        assert len(sheet) == pairs + (pairs > 1)


def test_without_repeats_nothing_comes_twice() -> None:
    assert all(len(sheet) == 10 for sheet in sheets(10, seed=0, repeats=0))
