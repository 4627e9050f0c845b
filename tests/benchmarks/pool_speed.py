"""Speed of the two pools on a candidate that computes for 50 ms, and how long the first result takes.

    python tests/benchmarks/pool_speed.py [--evaluations 200] [--rounds 3]

Two workers on this machine, the toy problem of the sandbox's tests, full isolation. Figures are medians.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "sandbox"))

from bench import TOY

from sandbox.pool import LocalPool, QueuePool
from sandbox.ray_pool import RayPool

WORKERS = 2
CANDIDATE = """
import time

def decide(carried):
    while time.process_time() < started + 0.05:
        pass
    return {"answer": np.ones(1)}

started = time.process_time()
"""


@dataclass(frozen=True)
class Round:
    first_s: float
    per_second: float


async def measure(pool: QueuePool, evaluations: int) -> Round:
    begin = time.perf_counter()
    await pool.start()
    await pool.submit(CANDIDATE, "search")
    first_s = time.perf_counter() - begin
    await asyncio.gather(*(pool.submit(CANDIDATE, "search") for _ in range(4 * WORKERS)))  # all are up
    begin = time.perf_counter()
    outcomes = await asyncio.gather(*(pool.submit(CANDIDATE, "search") for _ in range(evaluations)))
    took_s = time.perf_counter() - begin
    if wrong := [outcome for outcome in outcomes if outcome.failure]:
        raise RuntimeError(f"{len(wrong)} evaluations failed, the first one with {wrong[0]}")
    await pool.close()
    return Round(first_s, evaluations / took_s)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    pools: dict[str, Callable[[], QueuePool]] = {
        "local": lambda: LocalPool(TOY, WORKERS),
        "ray": lambda: RayPool(TOY, WORKERS),
    }
    rounds: dict[str, list[Round]] = {name: [] for name in pools}
    for _ in range(asked.rounds):
        for name, make in pools.items():
            rounds[name].append(asyncio.run(measure(make(), asked.evaluations)))

    print("pool     first result     evaluations per second")
    for name, done in rounds.items():
        first_s = statistics.median(each.first_s for each in done)
        per_second = statistics.median(each.per_second for each in done)
        print(f"{name:<8} {first_s:10.2f} s {per_second:22.1f}")
    ratios = [
        there.per_second / here.per_second for here, there in zip(rounds["local"], rounds["ray"], strict=True)
    ]
    print(f"ray / local {statistics.median(ratios):36.2f}")


if __name__ == "__main__":
    main()
