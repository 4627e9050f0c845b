import dataclasses
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for attempts and policies
sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))  # for bench and toy_problem

import bench
from policies import Policies

from evaluators.token_selection.problem import PROBLEM
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker

HASTY = dataclasses.replace(bench.QUICK, wall_s=1.5)


@pytest.fixture(scope="module")
def toy():
    """One worker for all attacks of a module: whatever one does, the next finds the pool at work."""
    os.environ["SECRET_API_KEY"] = "sk-canary"
    pool = bench.local()
    yield pool
    pool.close()
    del os.environ["SECRET_API_KEY"]


@pytest.fixture(scope="module")
def hasty():
    """The same for candidates that block until their time is over."""
    pool = bench.local(limits=HASTY)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def policies():
    """Plays policies of `token_selection` on the small recording, as they are: nothing is screened."""
    task = TaskRef(PROBLEM.actor, PROBLEM.judge, dict(PROBLEM.inputs(None).arguments), PROBLEM.stages)
    limits = Limits(wall_s=6.0, cpu_s=6, memory_bytes=1 << 30, output_bytes=64 << 20)
    worker = Worker(task, limits)
    yield Policies(worker)
    worker.close()
