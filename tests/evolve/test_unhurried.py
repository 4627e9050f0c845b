"""Finals: who does not end in time is measured again with wider limits, and nobody else."""

import asyncio

from evaluators.model_placement.problem import PROBLEM
from evolve.cascade import Cascade
from evolve.finals import Unhurried
from sandbox.pool import LocalPool
from sandbox.task import Limits, TaskRef

INPUTS = PROBLEM.inputs(None)
PLACE = "def place(load, size_gb, gpus, memory_gb):\n"
QUICK = f"{PLACE}    return [model % gpus for model in range(len(load))]\n"
SLOW = f"{PLACE}    sum(range(2 * 10 ** 7))\n    return [model % gpus for model in range(len(load))]\n"


async def measured(sources: list[str], wall_s: float) -> tuple[list[str | None], int]:
    """How these sources end at the probe, side by side, under a first limit, and how often a wider one was
    asked for.
    """
    task = TaskRef(PROBLEM.actor, PROBLEM.judge, dict(INPUTS.arguments), PROBLEM.stages)
    pools = [LocalPool(task, 2, Limits(wall_s=limit, cpu_s=60)) for limit in (wall_s, 60)]
    asked = 0

    async def slower() -> Cascade:
        nonlocal asked
        asked += 1
        return Cascade(PROBLEM, INPUTS, None, pools[1])

    for pool in pools:
        await pool.start()
    try:
        unhurried = Unhurried(Cascade(PROBLEM, INPUTS, None, pools[0]), slower)
        results = await asyncio.gather(*(unhurried.stage(source, "probe") for source in sources))
        return [result.failure for result in results], asked
    finally:
        for pool in pools:
            await pool.close()


def test_all_who_are_late_are_measured_again_and_wider_limits_are_asked_for_once():
    assert asyncio.run(measured([SLOW, QUICK, SLOW + "# other\n"], wall_s=0.2)) == ([None] * 3, 1)


def test_nobody_is_measured_again_for_another_failure():
    assert asyncio.run(measured([QUICK, "def place():\n    return 1\n"], wall_s=60)) == ([None, "crash"], 0)
