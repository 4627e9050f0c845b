"""Guarantees are handed over: what the feedback of two policies promises, one made of them keeps."""

import numpy as np
import pytest

from evaluators.problem import get_problem
from evaluators.verified_selection.scoring import score_of
from evolve.builtin.hand_over import READ, divisions, hand_over
from evolve.builtin.promises import promises_in
from evolve.builtin.syntax import parse
from evolve.problems import task_of
from sandbox.screen import screen
from sandbox.task import Limits
from sandbox.worker import Worker

PROBLEM = get_problem("verified_selection")
SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds()}
NAMES = ("bernstein", "low_bit", "dense", "uniform")


@pytest.fixture(scope="module")
def worker():
    worker = Worker(task_of(PROBLEM, PROBLEM.inputs(None)), Limits())
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def measured(worker):
    return {name: worker.run(SEEDS[name], "search").value for name in NAMES}


def test_promises_are_read_as_they_are_told(measured):
    for value in measured.values():
        found = promises_in(value["feedback"])
        assert found is not None
        assert READ.search(value["feedback"])
        assert found.epsilons == (0.05, 0.1, 0.2)
        assert found.deltas.tolist() == [0.05, 0.1, 0.2]
        samples = np.array(value["samples"])[0]
        assert np.allclose(found.rates, samples[:, :3] / samples[:, 3:6], atol=6e-4)
        assert np.allclose(found.traffic, samples[:, 6:9], atol=6e-4)
        assert found.score() == pytest.approx(score_of(np.array(value["samples"])), abs=0.02)
    assert promises_in("All went well.") is None


def test_a_policy_hands_over_the_goals_that_it_does_not_keep(measured):
    best = divisions(measured["uniform"]["feedback"], measured["dense"]["feedback"])[0]
    assert best.gain > 0.3
    nothing = divisions(measured["dense"]["feedback"], measured["uniform"]["feedback"])
    assert all(division.budgets or division.layers for division in nothing)


def test_what_is_promised_is_kept(measured, worker):
    made = 0
    for first in NAMES:
        for second in NAMES:
            ours, theirs = measured[first]["feedback"], measured[second]["feedback"]
            promised = divisions(ours, theirs)
            if not promised or promised[0].gain < 0.05:
                continue
            changed = hand_over(
                parse(SEEDS[first]), (ours, parse(SEEDS[second]), theirs), np.random.default_rng(0)
            )
            if changed is None:
                continue
            assert not screen(changed.code, PROBLEM.language)
            assert "goal.epsilon" in changed.code or "cache.layer" in changed.code
            came = worker.run(changed.code, "search")
            assert came.failure is None, came.message
            gain = came.value["score"] - measured[first]["score"]
            assert gain > 0.4 * promised[0].gain
            made += 1
    assert made >= 2
