"""The problem played in this process, on small contexts of the real model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evaluators.kv_eviction import prefilled
from evaluators.kv_eviction.actor import Actor, open_actor
from evaluators.kv_eviction.examination import Examination
from evaluators.kv_eviction.judge import Judge
from evaluators.kv_eviction.workloads import StagePlan
from evaluators.models import DEFAULT_MODEL, weights_path
from kvolve import KvolveError

PLANS = {
    "probe": StagePlan("probe"),
    "search": StagePlan("search", contexts=1),
    "whole": StagePlan("search", contexts=1, budgets=(1.0,)),
    "decode": StagePlan("validation", contexts=1, budgets=(2.0, 0.75, 0.5), decoded=128),
}


@pytest.fixture(scope="session")
def folder() -> Path:
    try:
        weights_path(DEFAULT_MODEL)
    except KvolveError as error:
        pytest.skip(f"the weights cannot be had: {error}")
    return prefilled.ensure("small", "", (), None, say=lambda _: None, progress=lambda *_: None)


@pytest.fixture(scope="session")
def actor() -> Actor:
    return open_actor()


@pytest.fixture(scope="session")
def judge(folder) -> Judge:
    return Judge(folder, PLANS)


@pytest.fixture(scope="session")
def examine(actor, judge) -> Callable[[str, str], Examination]:
    """Plays a policy's source through all processes of one stage; one after the other, in this one."""

    def examine(source: str, stage: str = "probe") -> Examination:
        examination = judge.examine(stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        return examination

    return examine
