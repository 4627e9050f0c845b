"""What the loop itself costs: `loop_overhead.py [--candidates N]`.

Loop, cascade and archive (on disk) are the real ones. Proposer and pool answer at once, after 10 ms, or
after half a second. Candidates are short, results have 16 metrics and 800 bytes of samples.
"""

import argparse
import asyncio
import hashlib
import random
import resource
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from database.archive import Archive
from evaluators.problem import get_problem
from evolve.cascade import Cascade
from evolve.loop import Loop
from evolve.proposer import Draft, Request
from evolve.run import create_archive
from evolve.settings import make_settings
from sandbox.task import Outcome

PROBLEM = get_problem("token_selection")
INPUTS = PROBLEM.inputs(None)
QUICK_S = 0.01  # about what the sandbox takes for a trivial candidate
SLOW_S = 0.5
WINDOW = 100


class Proposer:
    """Makes a new short candidate after `wait_s`."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s

    async def propose(self, request: Request, random: object) -> Draft:
        if self.wait_s:
            await asyncio.sleep(self.wait_s)
        return Draft("tune", (request.parents[0].hash,), f"NUMBER = {request.number}\n")


class Slots:
    """A pool that measures nothing: each search stage takes one of `slots` for `wait_s`."""

    def __init__(self, slots: int = 2, wait_s: float = 0.0) -> None:
        self.free = asyncio.Semaphore(slots)
        self.wait_s = wait_s
        self.intervals: list[tuple[float, float]] = []  # when a slot was taken and given back

    async def start(self) -> None:
        """There is nothing to start."""

    def submit(self, source: str, stage: str, sample: int = 0) -> asyncio.Future[Outcome]:
        if self.wait_s and stage == "search":
            return asyncio.ensure_future(self._slowly(source))
        future = asyncio.get_running_loop().create_future()
        future.set_result(outcome(source))
        return future

    async def _slowly(self, source: str) -> Outcome:
        async with self.free:
            begin = time.perf_counter()
            await asyncio.sleep(self.wait_s)
            self.intervals.append((begin, time.perf_counter()))
        return outcome(source)

    async def close(self) -> None:
        """There is nothing to end."""


def outcome(source: str) -> Outcome:
    """A result that depends on the source alone."""
    drawn = random.Random(source)
    value = {
        "behaviour": hashlib.sha256(source.encode()).hexdigest(),
        "score": drawn.gauss(0, 1),
        "metrics": {f"metric {i}": drawn.random() for i in range(16)},
        "descriptors": {d.name: drawn.uniform(d.low, d.high) for d in PROBLEM.descriptors},
        "feedback": "nothing to say " * 20,
        "samples": [[[drawn.random() for _ in range(16)] for _ in range(4)]],
    }
    return Outcome(value, None, "", 0.0, 0.0)


async def loop(folder: Path, evaluations: int, proposer: Proposer, pool: Slots) -> list[float]:
    """Runs the loop; returns the times at which results were in the archive."""
    settings = make_settings({"problem": PROBLEM.name, "max_evaluations": evaluations})
    folder.mkdir()
    archive: Archive = create_archive(settings, PROBLEM, INPUTS, folder)
    times: list[float] = []
    cascade = Cascade(PROBLEM, INPUTS, archive, pool)
    await Loop(settings, cascade, archive, proposer, lambda *_: times.append(time.perf_counter())).run()
    archive.close()
    return times[len(PROBLEM.seeds()) :]


def memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure(folder: Path, candidates: int) -> None:
    await loop(folder / "warm", 50, Proposer(), Slots())
    before = memory_mib()
    times = await loop(folder / "idle", candidates, Proposer(), Slots())
    each = [later - earlier for earlier, later in pairwise(times)]
    print(f"candidates                                    {candidates:>8,}")
    print(f"loop overhead per candidate, mean             {1000 * statistics.fmean(each):8.3f} ms")
    print(f"driver memory beyond imports                  {memory_mib() - before:8.1f} MiB")
    times = await loop(folder / "quick", candidates, Proposer(), Slots(2, QUICK_S))
    first, last = times[WINDOW] - times[0], times[-1] - times[-1 - WINDOW]
    print(f"rate, 2 slots of {1000 * QUICK_S:.0f} ms, first {WINDOW}             {WINDOW / first:8.1f} /s")
    print(f"  last {WINDOW}                                    {WINDOW / last:8.1f} /s")
    print(f"  last over first                             {first / last:8.2f}")
    pool = Slots(slots=2, wait_s=SLOW_S)
    await loop(folder / "slow", 80, Proposer(SLOW_S), pool)
    begin, end = pool.intervals[0][0], pool.intervals[-1][1]
    used = sum(until - since for since, until in pool.intervals) / (2 * (end - begin))
    print(f"slot time used, 2 slots, {1000 * SLOW_S:.0f} ms each           {used:8.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the loop.")
    parser.add_argument("--candidates", type=int, default=10_000, metavar="N")
    count = parser.parse_args().candidates
    with TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), count))


if __name__ == "__main__":
    main()
