"""The problem played in this process: what the sandbox does, without its walls."""

from collections.abc import Callable

import pytest

from evaluators.transaction_scheduling.actor import open_actor
from evaluators.transaction_scheduling.judge import open_judge
from evaluators.transaction_scheduling.problem import PROBLEM


@pytest.fixture(scope="session")
def play() -> Callable[..., dict]:
    """The verdict on a program's source in one stage."""
    actor, judge = open_actor(), open_judge()

    def play(source: str, stage: str = "probe") -> dict:
        examination = judge.examine(stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        return examination.value()

    return play


@pytest.fixture(scope="session")
def sources() -> dict[str, str]:
    """The seeds by name."""
    return {seed.name: seed.source for seed in PROBLEM.seeds()}
