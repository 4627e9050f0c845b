"""Pools for tests: a toy task, and a pool that is driven without writing coroutines."""

import asyncio
import os
import select
import time
from pathlib import Path

from sandbox.pool import LocalPool
from sandbox.task import Limits, TaskRef

TOY = TaskRef("toy_problem:ToyActor", "toy_problem:ToyJudge", {}, ("probe", "search"))
QUICK = Limits(wall_s=6.0, cpu_s=1, memory_bytes=256 << 20, output_bytes=16 << 20)
GOOD = """
def decide(carried):
    return {"answer": np.ones(3) if carried is None else carried["answer"] + 1}
"""
ENDLESS = "while True: pass"


def deciding(expression, before=""):
    """A candidate that runs `before` and then answers `expression`, a number."""
    answer = f"{{'answer': np.array([{expression}], dtype=np.float64)}}"
    return f"{before}\ndef decide(carried):\n    return {answer}\n"


class Bench:
    """A started pool and its event loop."""

    def __init__(self, pool):
        self.pool = pool
        self.runner = asyncio.Runner()
        self.runner.run(pool.start())

    def run(self, source, stage="search"):
        return self.runner.run(self._one(source, stage))

    def do(self, coroutine):
        return self.runner.run(coroutine)

    async def _one(self, source, stage):
        return await self.pool.submit(source, stage)

    def close(self):
        self.runner.run(self.pool.close())
        self.runner.close()


def local(task=TOY, workers=1, limits=QUICK, unsafe=False):
    return Bench(LocalPool(task, workers, limits, unsafe))


def children(pid):
    """Process ids of the children of `pid`, whichever of its threads started them."""
    try:
        lists = [(thread / "children").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return []
    return [int(child) for text in lists for child in text.split()]


def workers():
    """Process ids of the workers of this process's local pools; it may have children of other kinds."""
    return [pid for pid in children(os.getpid()) if b"sandbox.worker" in _command_line(pid)]


def zygotes():
    """Process ids of what holds the zygotes of this process's own workers: bubblewrap, or a zygote itself."""
    return [pid for pid in children(os.getpid()) if b"sandbox.zygote" in _command_line(pid)]


def _command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return b""


def depth(pid):
    """How many generations of processes there are below `pid`."""
    return max((1 + depth(child) for child in children(pid)), default=0)


def descendants(pid):
    found = children(pid)
    return found + [inner for child in found for inner in descendants(child)]


def all_end(pids, within_s=10.0):
    """Whether all processes end in time."""
    deadline = time.monotonic() + within_s
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]
        os.close(descriptor)
        if not ended:
            return False
    return True
