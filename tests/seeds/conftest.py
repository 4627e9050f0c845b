"""A sandbox worker, what all seeds of token_selection score, and one recorded layer."""

import pytest

from evaluators.token_selection.judge import open_judge
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker
from tests.seeds.policies import PROBLEM, SEEDS


@pytest.fixture(scope="package")
def arguments() -> dict[str, str]:
    return dict(PROBLEM.inputs(None).arguments)


@pytest.fixture(scope="package")
def worker(arguments):
    worker = Worker(TaskRef(PROBLEM.actor, PROBLEM.judge, arguments, PROBLEM.stages), Limits())
    yield worker
    worker.close()


@pytest.fixture(scope="package")
def verdicts(worker) -> dict[str, dict]:
    return {name: worker.run(seed.source, "search").value for name, seed in SEEDS.items()}


@pytest.fixture(scope="package")
def layer(arguments):
    """The last layer of the recorded context, its tokens without decode steps, and its number."""
    workload = open_judge(**arguments).open("search").workload
    return workload.contexts[0][-1], workload.prefill, workload.numbers[-1]
