"""A worker of token_selection, for what operators promise."""

from collections.abc import Iterator

import pytest

from evaluators.problem import get_problem
from evolve.problems import task_of
from sandbox.task import Limits
from sandbox.worker import Worker


@pytest.fixture(scope="module")
def selection_worker() -> Iterator[Worker]:
    """Plays policies on the small recording."""
    problem = get_problem("token_selection")
    worker = Worker(task_of(problem, problem.inputs(None)), Limits())
    yield worker
    worker.close()
