"""Noisy scores: luck does not last, and nobody is measured more often than it takes."""

import statistics
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from database.records import Elite
from evolve.remeasure import LEVEL, MOST, REMEASURE, Remeasuring, separated
from tests.evolve.arithmetic import Pace, PayingProposer, Run, true_score

TRIED = (Phase.explicit, Phase.generate)  # each example is whole runs: shrinking one would take minutes
NOISE = 1.0  # as large as what can be found


@pytest.fixture(scope="module")
def noisy(tmp_path_factory) -> list[Run]:
    runs = [
        Run(tmp_path_factory.mktemp("noisy") / "run", NOISE, seed=seed, max_evaluations=120)
        for seed in range(12)
    ]
    for run in runs:
        run.work(proposer=PayingProposer(Pace(), gain=0.0))
    return runs


def luck(run: Run, hash: str, score: float) -> float:
    return score - true_score(run.archive.candidate(hash).source)


def test_a_score_without_noise_is_never_measured_again(tmp_path):
    run = Run(tmp_path)
    run.work()
    assert REMEASURE not in run.archive.operator_counts()
    assert max(run.pool.measured.values()) == 1


def test_a_third_of_the_luck_that_made_an_elite_is_lost_at_least(noisy):
    elites = [(run, elite) for run in noisy for elite in run.archive.holders() if elite.samples == MOST]
    first = [
        luck(run, elite.hash, run.archive.evaluation(elite.hash, "search").score) for run, elite in elites
    ]
    last = [luck(run, elite.hash, elite.score) for run, elite in elites]
    assert statistics.mean(last) < statistics.mean(first) * 2 / 3


def test_promotions_that_do_not_hold_are_undone_and_counted(noisy):
    assert sum(run.archive.undone() for run in noisy) >= 3


def test_a_contest_is_open_until_the_best_is_told_apart_or_both_are_measured_to_the_cap(noisy):
    for run in noisy:
        archive = run.archive
        best, *rivals = sorted(
            {e.hash: e for e in archive.holders()}.values(), key=lambda e: (-e.score, e.number)
        )
        decided = separated(best, rivals[0], archive.holders())
        capped = min(best.samples, rivals[0].samples) == MOST
        due = Remeasuring(archive, islands=2).due(400, {})
        assert (due is None) == (decided or capped)
        assert due in (None, best.hash, rivals[0].hash)


def test_elites_of_the_last_island_are_measured_again_the_oldest_first(noisy):
    for run in noisy:
        archive = run.archive
        again = [proposal for proposal in archive.steps() if proposal.operator == REMEASURE]
        assert any(step.number % 2 == 1 for step in again)  # the islands take turns
        for elite in archive.elites(1):
            assert elite.samples == 1 + len(archive.samples(elite.hash, "search"))
        asked = Remeasuring(archive, islands=2).due(401, {})
        ages = {elite.hash: elite.measured for elite in archive.elites(1) if elite.samples < MOST}
        assert ages.get(asked) == min(ages.values(), default=None)


@settings(max_examples=8, deadline=None, phases=TRIED)
@given(seed=st.integers(0, 1000), slowest=st.integers(0, 60))
def test_nobody_is_measured_more_often_than_the_cap(seed, slowest):
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), NOISE, max_evaluations=80)
        run.work(Pace(seed, slowest))
        assert max(run.pool.measured.values()) <= MOST
        assert REMEASURE in run.archive.operator_counts()


def measured(hash: str, scores: list[float]) -> Elite:
    mean = statistics.fmean(scores)
    spread = sum((score - mean) ** 2 for score in scores)
    return Elite(0, (0,), hash, mean, 0, True, len(scores), spread, 0)


def test_equal_candidates_are_rarely_told_apart_however_often_one_looks():
    random, wrong = Random(0), 0
    for _ in range(1000):
        drawn = [[random.gauss(0, 1) for _ in range(MOST)] for _ in range(2)]
        looks = (
            [measured(str(i), scores[:count]) for i, scores in enumerate(drawn)]
            for count in range(1, MOST + 1)
        )
        wrong += any(separated(*pair, pair) or separated(*reversed(pair), pair) for pair in looks)
    assert wrong <= 1000 * LEVEL


def test_different_candidates_are_told_apart():
    random, found = Random(0), 0
    for _ in range(200):
        better, worse = ([random.gauss(mean, 1) for _ in range(MOST)] for mean in (5, 0))
        pair = measured("a", better), measured("b", worse)
        found += separated(*pair, pair)
    assert found > 180


def test_without_noise_a_larger_score_is_a_larger_score():
    better, worse = (Elite(0, (0,), name, score, 0) for name, score in (("a", 1.0), ("b", 0.9)))
    assert separated(better, worse, [better, worse])
