"""A judge that breaks on a candidate costs this candidate its score, and the pool nothing."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))  # for bench and toy_problem

import bench
from bench import GOOD

BROKEN = {
    "while it takes the end": "def decide(c): return {'answer': np.ones(1), 'bug': np.ones(1)}",
    "while it answers": "ask('double', {})",
}


@pytest.fixture(scope="module")
def toy():
    pool = bench.local()
    yield pool
    pool.close()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_judge_is_told_with_its_traceback_and_the_pool_goes_on(toy, name):
    first = toy.run(GOOD).value
    outcome = toy.run(BROKEN[name])
    assert (outcome.failure, outcome.value) == ("sandbox", None)
    assert "the judge failed" in outcome.message
    assert "KeyError" in outcome.message
    assert toy.run(GOOD).value == first
