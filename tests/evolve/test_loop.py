"""The loop under many orders of events: whoever is slow, and whenever it dies, the archive is the same."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.evolve.arithmetic import SEEDS, Pace, PayingProposer, ReadingProposer, Run

TRIED = (Phase.explicit, Phase.generate)  # each example is whole runs: shrinking one would take minutes
STRATEGIES = [
    {"strategy": "map_elites", "selection": "rank"},
    {"strategy": "map_elites", "selection": "uniform"},
    {"strategy": "map_elites", "selection": "curiosity"},
    {"strategy": "best_of_n"},
    {"strategy": "random_restart"},
    {"strategy": "hill_climb"},
    {"strategy": "map_elites", "noise": 1.0},
    {"strategy": "best_of_n", "noise": 1.0},
    {"strategy": "random_restart", "noise": 1.0},
    {"strategy": "hill_climb", "noise": 1.0},
    {"strategy": "map_elites", "cvt_cells": 30},
    {"strategy": "map_elites", "noise": 1.0, "proposer": ReadingProposer},
]


def name_of(chosen: dict[str, object]) -> str:
    return "-".join(getattr(value, "__name__", str(value)) for value in chosen.values())


CHOSEN = pytest.mark.parametrize("chosen", STRATEGIES, ids=name_of)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    """Content hashes of runs in which nobody takes any time, by strategy."""
    hashes = {}
    for chosen in STRATEGIES:
        run = Run(tmp_path_factory.mktemp("run") / "run", **chosen)
        run.work()
        hashes[name_of(chosen)] = run.archive.content_hash()
    return hashes


def test_every_strategy_makes_another_archive(undisturbed):
    assert len(set(undisturbed.values())) == len(STRATEGIES)


@CHOSEN
@settings(max_examples=5, deadline=None, phases=TRIED)
@given(seed=st.integers(0, 1000), slowest=st.integers(1, 60))
def test_the_archive_does_not_depend_on_who_is_slow(undisturbed, chosen, seed, slowest):
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), **chosen)
        run.work(Pace(seed, slowest))
        assert run.archive.content_hash() == undisturbed[name_of(chosen)]


@CHOSEN
@settings(max_examples=5, deadline=None, phases=TRIED)
@given(
    seed=st.integers(0, 1000),
    slowest=st.integers(1, 60),
    lives=st.lists(st.integers(0, 300), min_size=1, max_size=4),
)
def test_the_archive_does_not_depend_on_when_a_run_is_killed(undisturbed, chosen, seed, slowest, lives):
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), **chosen)
        for life, turns in enumerate(lives):
            run.work(Pace(seed + life, slowest), killed_after=turns)
        run.work(Pace(seed, slowest))
        assert run.archive.content_hash() == undisturbed[name_of(chosen)]


@CHOSEN
@settings(max_examples=5, deadline=None, phases=TRIED)
@given(seed=st.integers(0, 1000), slowest=st.integers(0, 60), first=st.integers(1, 39))
def test_a_larger_budget_later_is_as_good_as_at_once(undisturbed, chosen, seed, slowest, first):
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), **chosen)
        run.work(Pace(seed, slowest), max_evaluations=first)
        assert run.archive.completed() == first
        run.work(Pace(seed, slowest))
        assert run.archive.content_hash() == undisturbed[name_of(chosen)]


def test_proposals_are_asked_for_side_by_side(tmp_path):
    pace = Pace(1, 50)
    proposer = PayingProposer(pace)
    Run(tmp_path).work(pace, proposer)
    assert proposer.most_under_way > 4


def test_each_proposal_is_asked_for_once(tmp_path):
    pace = Pace(1, 50)
    proposer = PayingProposer(pace)
    Run(tmp_path).work(pace, proposer)
    assert proposer.calls == list(range(SEEDS, 40))


def test_results_enter_in_any_order_when_that_is_asked_for(tmp_path):
    run = Run(tmp_path, deterministic=False)
    run.work(Pace(3, 40))
    assert run.archive.completed() == 40
    assert run.archive.pending() == []
