"""The smallest cost of a trace that is known beforehand, by dynamic programming over all that can be done."""

from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from evaluators.spot_scheduling.workloads import STEP, Market

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Costs = NDArray[np.int64]

NEVER = 1 << 40  # cost of a job that is not done at its deadline


def smallest_costs(market: Market) -> "Costs":
    """The cost of the best schedule of each trace, [N], under the same rules as any candidate's.

    Backwards over the steps: the least cost still to come for every amount of remaining work (exact, as all
    times are whole quanta), home region, and instance at hand: none, spot at home, or on demand. The region
    of a spot instance is always home. The future of a state depends on nothing else, and each choice of a
    step is tried, so the least cost of the first state is the optimum.
    """
    job, (steps, traces, regions) = market.job, market.available.shape
    remaining = np.arange(job.work + 1)
    end = np.where(remaining == 0, 0, NEVER)
    # least cost to come, [N, W + 1], for each home region
    none = spot = demand = [np.broadcast_to(end, (traces, job.work + 1))] * regions
    for step in reversed(range(steps)):
        left = STEP * (steps - step - 1)  # quanta to the deadline after this step
        safe = np.where((remaining > 0) & (remaining + job.restart > left), NEVER, 0)
        offered = np.where(market.available[step], 0, NEVER)  # [N, R]
        kept = [spot[region] + safe + offered[:, region, None] for region in range(regions)]
        there = {
            lost: [_step(kept[region], market.price[step, :, region], lost) for region in range(regions)]
            for lost in {0, job.restart, job.migration}
        }
        wait = [costs + safe for costs in none]
        rate = np.full(traces, job.on_demand)
        stays = [_step(demand[home], rate, 0) for home in range(regions)]
        starts = [_step(demand[home], rate, job.restart) for home in range(regions)]
        elsewhere = [
            [there[job.migration][region] for region in range(regions) if region != home]
            for home in range(regions)
        ]
        anew = [_least(wait[h], there[job.restart][h], *elsewhere[h]) for h in range(regions)]
        none = [_least(anew[h], starts[h]) for h in range(regions)]
        spot = [_least(none[h], there[0][h]) for h in range(regions)]
        demand = [_least(anew[h], stays[h]) for h in range(regions)]
    return none[0][:, job.work].copy()


def _step(after: "Costs", price: "Costs", overhead: int) -> "Costs":
    """The cost [N, W + 1] of a step on an instance, and of what comes `after`; the last step is paid for as
    long as it is used.
    """
    done = STEP - overhead
    last = min(done, after.shape[1] - 1)  # the most that can be finished in this step
    cost = np.empty_like(after)
    cost[:, 0] = after[:, 0]
    cost[:, 1 : last + 1] = after[:, :1] + price[:, None] * np.arange(1 + overhead, last + overhead + 1)
    cost[:, done + 1 :] = after[:, 1 : max(1, after.shape[1] - done)] + price[:, None] * STEP
    return cost


def _least(*costs: "Costs") -> "Costs":
    return reduce(np.minimum, costs)
