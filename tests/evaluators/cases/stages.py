"""One stage of one candidate, in a real sandbox."""

from functools import cache

from evaluators.problem import Problem, get_problem
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import Worker


@cache
def worker(name: str) -> Worker:
    """A sandbox of a problem."""
    problem = get_problem(name)
    task = TaskRef(problem.actor, problem.judge, dict(problem.inputs(None).arguments), problem.stages)
    return Worker(task, Limits(wall_s=10, cpu_s=8, memory_bytes=1 << 30))


def run(problem: Problem, source: str, stage: str) -> Outcome:
    """What a stage comes to for a candidate."""
    return worker(problem.name).run(source, stage)
