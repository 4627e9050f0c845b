"""The problems of cases played in this process: what the sandbox does, without its walls."""

import importlib
from collections.abc import Callable

import pytest

from evaluators.problem import get_problem


@pytest.fixture(scope="module")
def play(request) -> Callable[..., dict]:
    """The verdict on a program's source in one stage of the problem that a folder of tests is about."""
    package = f"evaluators.{request.path.parent.name}"
    actor = importlib.import_module(f"{package}.actor").open_actor()
    judge = importlib.import_module(f"{package}.judge").open_judge()

    def play(source: str, stage: str = "probe") -> dict:
        examination = judge.examine(stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        return examination.value()

    return play


@pytest.fixture(scope="module")
def sources(request) -> dict[str, str]:
    """The seeds of that problem by name."""
    return {seed.name: seed.source for seed in get_problem(request.path.parent.name).seeds()}
