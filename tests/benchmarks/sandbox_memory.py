"""What a worker of `token_selection` holds in memory, and how much of it the workers of a pool share.

    python tests/benchmarks/sandbox_memory.py [--recording full|small|DIR] [--seeds quest simhash_sampled]

Starts local pools of 1, 2 and 4 workers, sends two seeds through probe and search on every worker, and then
reads /proc/PID/smaps of all of their processes, while no candidate runs. PSS divides every page by the number
of processes that map it, so that its sums count each page once (and less of a page that others on this
machine map, too: run nothing else on this Python meanwhile). Needs Linux, and root to look into zygotes.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))

from bench import children
from pool_processes import KINDS, by_kind, mapped_bytes

from evaluators.problem import get_problem
from evolve.run import choose_recording
from sandbox.pool import LocalPool
from sandbox.task import TaskRef

PROBLEM = get_problem("token_selection")
SIZES = (1, 2, 4)
STAGES = ("probe", "search")
CONTENTS = ("recording", "other files", "no file")
MIB = 2**20


@dataclass(frozen=True)
class Process:
    """One process of a pool: the bytes that it maps, by what is mapped."""

    kind: str
    mapped: dict[str, Counter[str]]  # one of CONTENTS -> Rss, Pss, Shared, Private

    def bytes_of(self, figure: str, *contents: str) -> int:
        return sum(self.mapped.get(content, Counter())[figure] for content in contents or CONTENTS)


async def fill(task: TaskRef, workers: int, sources: list[str]) -> list[Process]:
    """The processes of a pool of which every worker has evaluated all sources."""
    pool = LocalPool(task, workers)
    await pool.start()
    for stage in STAGES:
        for source in sources:
            # Idle workers take one each. (A repeated straggler would only do more.)
            outcomes = await asyncio.gather(*(pool.submit(source, stage) for _ in range(workers)))
            if failed := [outcome for outcome in outcomes if outcome.failure]:
                raise RuntimeError(f"an evaluation failed: {failed[0]}")
    folders = tuple(f"{folder}/" for folder in task.arguments.values())

    def content(path: str) -> str:
        if path.startswith(folders):
            return "recording"
        return "other files" if path.startswith("/") else "no file"

    found = [
        Process(kind, mapped_bytes(pid, content)) for kind, pids in by_kind(children).items() for pid in pids
    ]
    await pool.close()
    return found


def total(processes: list[Process], figure: str, *contents: str) -> float:
    """MiB of all processes together."""
    return sum(process.bytes_of(figure, *contents) for process in processes) / MIB


def print_processes(pools: dict[int, list[Process]]) -> None:
    print(f"\n{'mean per process, MiB':<34}{'Rss':>9}{'Pss':>9}{'shared':>9}{'private':>9}")
    for workers, processes in pools.items():
        for kind in KINDS:
            alike = [process for process in processes if process.kind == kind]
            figures = (total(alike, name) / workers for name in ("Rss", "Pss", "Shared", "Private"))
            title = f"{workers} workers: {kind}" if workers > 1 else f"1 worker: {kind}"
            print(f"{title:<34}" + "".join(f"{figure:9.1f}" for figure in figures))


def print_contents(pools: dict[int, list[Process]]) -> None:
    print(f"\n{'PSS of all processes, MiB':<34}" + "".join(f"{title:>13}" for title in (*CONTENTS, "all")))
    for workers, processes in pools.items():
        figures = [total(processes, "Pss", content) for content in CONTENTS]
        print(f"{workers:<34}" + "".join(f"{figure:13.1f}" for figure in (*figures, sum(figures))))
    most, least = SIZES[-1], SIZES[0]
    extra = [
        (total(pools[most], "Pss", content) - total(pools[least], "Pss", content)) / (most - least)
        for content in CONTENTS
    ]
    print(
        f"{f'per extra worker, ({most} - {least}) / {most - least}':<34}"
        + "".join(f"{figure:13.1f}" for figure in (*extra, sum(extra)))
    )


def print_recording(pools: dict[int, list[Process]]) -> None:
    """How often the recording's pages are mapped, and how often they are in memory."""
    print(f"\n{'pages of the recording, MiB':<34}{'Rss':>9}{'Pss':>9}{'private':>9}   Rss of each worker")
    for workers, processes in pools.items():
        figures = (total(processes, name, "recording") for name in ("Rss", "Pss", "Private"))
        each = [f"{total([one], 'Rss', 'recording'):.1f}" for one in processes if one.kind == "worker"]
        line = "".join(f"{figure:9.1f}" for figure in figures)
        print(f"{workers:<34}{line}   {', '.join(each)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recording", default="full")
    parser.add_argument("--seeds", nargs="+", default=["quest", "simhash_sampled"])
    asked = parser.parse_args()
    inputs = PROBLEM.inputs(choose_recording(asked.recording, print, lambda *_: None))
    task = TaskRef(PROBLEM.actor, PROBLEM.judge, dict(inputs.arguments), PROBLEM.stages)
    sources = [seed.source for seed in PROBLEM.seeds() if seed.name in asked.seeds]
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    print(f"{inputs.summary}\n{', '.join(asked.seeds)} through {' and '.join(STAGES)} on every worker")
    try:
        pools = {workers: asyncio.run(fill(task, workers, sources)) for workers in SIZES}
    except PermissionError as error:
        sys.exit(f"{error.filename} cannot be read: only root can look into a zygote.")
    print_processes(pools)
    print_contents(pools)
    print_recording(pools)


if __name__ == "__main__":
    main()
