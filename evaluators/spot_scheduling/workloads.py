"""Generated jobs and markets: where spot capacity is to be had, and at which price, step by step.

The model of a market: each region is calm or tight for many hours at a time. In a calm one spot capacity is
rarely lost and soon back, in a tight one it is the other way round; regions differ in how often they are
tight. The price is a share of the on-demand price, other in each region, times an AR(1) process of its
logarithm, and is higher while the region is tight. What is not told: the regime, and the future.

All times are whole quanta and all prices whole cents, so that costs and the optimum are exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.spot_scheduling.play import Schedule

QUANTUM_H = 0.1
STEP = 5  # quanta from one decision to the next: half an hour
ON_DEMAND_CENTS = 300  # for an hour
WORK_STEPS = (40, 81)  # work of a job: 20 to 40 hours
SLACK = (1.1, 1.6)  # deadline over work
# a step ends a calm time or a tight time, takes capacity away in either, and brings it back in either
LEAVES_CALM, LEAVES_TIGHT = 0.05, 0.035
LOST, BACK = (0.03, 0.40), (0.30, 0.03)
SHARE = (0.15, 0.5)  # spot price over on-demand price
PRICE_DRIFT, PRICE_KEPT = 0.15, 0.95
TIGHT_PRICE = 1.3  # times the price, while the region is tight
# stage -> seed of its random numbers, cases, traces of each, scale of the work. Of 40 programs that differ in
# constants only, a probe of 2 cases of 3 traces told 8 apart, this one 35, and the search all of them.
STAGES = {
    "probe": (31, 4, 8, 0.6),
    "second_probe": (32, 4, 8, 0.6),
    "search": (33, 12, 8, 1.0),
    "validation": (34, 12, 8, 1.0),
    "holdout": (35, 16, 8, 1.0),
}


@dataclass(frozen=True)
class Job:
    """What has to be done by when; times in quanta."""

    work: int
    steps: int  # to the deadline
    restart: int  # lost at the start of every instance
    migration: int  # lost instead at the start in a region where the last checkpoint is not; at most STEP
    on_demand: int  # cents for an hour


@dataclass(frozen=True, eq=False)
class Market:
    """One job on several traces of the market. Of `available` and `price` only the past is ever told."""

    job: Job
    available: "NDArray[np.bool_]"  # [T, N, R] step, trace, region
    price: "NDArray[np.int64]"  # [T, N, R] cents for an hour

    def play(self) -> "Schedule":
        from evaluators.spot_scheduling.play import Schedule

        return Schedule(self)

    @property
    def future(self) -> "Mapping[str, NDArray[Any]]":
        """All that decides the cost of a schedule and is not told before the first step."""
        return {
            "steps": np.array(self.job.steps),
            "available_later": self.available,
            "price_later": self.price,
        }

    @cached_property
    def optimum(self) -> "NDArray[np.int64]":
        """The smallest cost of each trace, [N], by one who knows it: see `optimum.smallest_costs`."""
        from evaluators.spot_scheduling.optimum import smallest_costs

        return smallest_costs(self)


def cases(stage: str) -> tuple[Market, ...]:
    """The cases of a stage, the same on every machine."""
    seed, count, traces, scale = STAGES[stage]
    random = np.random.Generator(np.random.Philox(key=seed))
    # One to four regions in turn: with a single one there is nothing to migrate to.
    return tuple(_market(random, traces, 1 + number % 4, scale) for number in range(count))


def _market(random: np.random.Generator, traces: int, regions: int, scale: float) -> Market:
    work = STEP * int(random.integers(*WORK_STEPS) * scale)
    restart = int(random.integers(1, 4))
    job = Job(
        work=work,
        steps=-(-int(work * random.uniform(*SLACK) + restart) // STEP),
        restart=restart,
        migration=int(random.integers(restart, STEP + 1)),
        on_demand=ON_DEMAND_CENTS,
    )
    return Market(job, *_trace(random, job.steps, traces, regions))


def _trace(
    random: np.random.Generator, steps: int, traces: int, regions: int
) -> tuple["NDArray[np.bool_]", "NDArray[np.int64]"]:
    shape = (traces, regions)
    often = random.uniform(0.4, 2.5, regions)  # how readily a region becomes tight
    base = ON_DEMAND_CENTS * random.uniform(*SHARE, regions)
    tight = random.uniform(size=shape) < LEAVES_CALM * often / (LEAVES_CALM * often + LEAVES_TIGHT)
    available = random.uniform(size=shape) < np.where(
        tight, BACK[1] / (BACK[1] + LOST[1]), BACK[0] / (BACK[0] + LOST[0])
    )
    drift = random.normal(0.0, PRICE_DRIFT, shape)
    found, prices = np.empty((steps, *shape), np.bool_), np.empty((steps, *shape), np.int64)
    for step in range(steps):
        found[step] = available
        price = base * np.exp(drift) * np.where(tight, TIGHT_PRICE, 1.0)
        prices[step] = np.clip(np.rint(price), 1, ON_DEMAND_CENTS)
        turns = random.uniform(size=shape) < np.where(tight, LEAVES_TIGHT, LEAVES_CALM * often)
        tight = tight ^ turns
        kept = 1.0 - np.where(tight, LOST[1], LOST[0])
        back = np.where(tight, BACK[1], BACK[0])
        available = random.uniform(size=shape) < np.where(available, kept, back)
        innovation = random.normal(0.0, PRICE_DRIFT * np.sqrt(1 - PRICE_KEPT**2), shape)
        drift = PRICE_KEPT * drift + innovation
    return found, prices
