"""The problem played in this process, on the small recording: what the sandbox does, without its walls."""

from collections.abc import Callable

import pytest

from evaluators.token_selection.actor import Actor, open_actor
from evaluators.token_selection.judge import Judge, open_judge
from evaluators.token_selection.problem import PROBLEM

STAGES = ("probe", "search", "validation")

Play = Callable[[str, str], dict]


@pytest.fixture(scope="session")
def arguments() -> dict[str, str]:
    return {stage: path for stage, path in PROBLEM.inputs(None).arguments.items() if stage in STAGES}


@pytest.fixture(scope="session")
def actor(arguments) -> Actor:
    return open_actor(STAGES, **arguments)


@pytest.fixture(scope="session")
def judge(arguments) -> Judge:
    return open_judge(STAGES, **arguments)


@pytest.fixture(scope="session")
def play(actor, judge) -> Play:
    """Plays a policy's source through one stage and returns the verdict."""

    def play(source: str, stage: str = "search") -> dict:
        rounds = [actor.act(source, stage, None)]
        if actor.rounds[stage] > 1:
            rounds.append(actor.act(source, stage, rounds[0]))
        return judge.judge(stage, rounds)

    return play
