"""The problem played in this process, on the small recording: what the sandbox does, without its walls."""

from collections.abc import Callable

import pytest

from evaluators.prefill_selection.actor import Actor, open_actor
from evaluators.prefill_selection.examination import Examination
from evaluators.prefill_selection.judge import Judge, open_judge
from evaluators.prefill_selection.problem import PROBLEM

Examine = Callable[[str, str], Examination]


@pytest.fixture(scope="session")
def actor() -> Actor:
    return open_actor()


@pytest.fixture(scope="session")
def judge() -> Judge:
    return open_judge(**PROBLEM.inputs(None).arguments)


@pytest.fixture(scope="session")
def examine(actor, judge) -> Examine:
    """Plays a policy's source through all processes of one stage; one after the other, in this one."""

    def examine(source: str, stage: str) -> Examination:
        examination = judge.examine(stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        return examination

    return examine


@pytest.fixture(scope="session")
def play(examine) -> Callable[..., dict]:
    """The verdict on a policy's source."""
    return lambda source, stage="search": examine(source, stage).value()
