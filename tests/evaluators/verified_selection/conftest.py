"""The problem played in this process, on the small recording."""

from collections.abc import Callable

import pytest

from evaluators.token_selection.examination import Examination
from evaluators.verified_selection.actor import open_actor
from evaluators.verified_selection.judge import open_judge
from evaluators.verified_selection.problem import PROBLEM, with_goals

Examine = Callable[..., Examination]


@pytest.fixture(scope="session")
def examine() -> Examine:
    """Plays a policy's source through all processes of one stage; one after the other, in this one."""
    actor, judges = open_actor(), {}

    def examine(source: str, stage: str = "search", goals: tuple[str, ...] = ()) -> Examination:
        inputs = PROBLEM.inputs(None)
        if goals:
            inputs = with_goals(inputs, goals)
        if goals not in judges:
            judges[goals] = open_judge(**inputs.arguments, **inputs.options)
        examination = judges[goals].examine(stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        return examination

    return examine
