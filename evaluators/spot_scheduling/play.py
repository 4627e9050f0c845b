"""The market as a candidate meets it: step by step, with the future left out, and a deadline that holds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Measured, out_of_turn, whole_numbers
from evaluators.spot_scheduling.workloads import QUANTUM_H, STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.spot_scheduling.workloads import Market

    Arrays = Mapping[str, NDArray[Any]]
    Ints = NDArray[np.int64]

WAIT = -1
CENT_QUANTA = 100 / QUANTUM_H  # of these (cents for an hour, times quanta) make a dollar


class Schedule:
    """One case under way: all its traces advance together.

    A place is the region of a spot instance, `regions` for an on-demand instance, or WAIT for none. The one
    rule of the deadline: a choice after which the job could no longer be finished on demand, started at the
    next step, is replaced by on-demand now. That is always in time, as it was so before the step: staying on
    an instance moves the work and the deadline by the same time, and losing one is what the restart in the
    rule is for.
    """

    def __init__(self, market: "Market") -> None:
        self.market = market
        self.job = market.job
        _, traces, self.regions = market.available.shape
        self.step = 0
        self.remaining = np.full(traces, self.job.work)
        self.place = np.full(traces, WAIT)
        self.home = np.zeros(traces, np.int64)  # region of the last checkpoint
        self.cost = np.zeros(traces, np.int64)  # cents for an hour, times quanta
        self.chosen: list[Ints] = []
        self.counts = dict.fromkeys(("on_demand", "spot", "waiting", "starts", "moves", "replaced"), 0)

    # What the candidate is told

    def told(self) -> "Arrays":
        """What is known before the first step; times in hours, prices in dollars for an hour."""
        job = self.job
        constants = {
            "work": job.work * QUANTUM_H,
            "step": STEP * QUANTUM_H,
            "restart": job.restart * QUANTUM_H,
            "migration": job.migration * QUANTUM_H,
            "on_demand": job.on_demand / 100,
        }
        return {name: np.array(value) for name, value in constants.items()} | dict(self.now())

    def now(self) -> "Arrays":
        """What is known at this step, [N] or [N, R]; nothing once all traces are done."""
        if not self.running.any():
            return {}
        return {
            "elapsed": np.array(self.step * STEP * QUANTUM_H),
            "left": np.array((self.job.steps - self.step) * STEP * QUANTUM_H),
            "running": self.running,
            "remaining": self.remaining * QUANTUM_H,
            "place": self.place.copy(),
            "home": self.home.copy(),
            "available": self.market.available[self.step],
            "price": self.market.price[self.step] / 100,
        }

    @property
    def running(self) -> "NDArray[np.bool_]":
        """Which traces have work left, [N]."""
        return self.remaining > 0

    # What it answers

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        """The next step, after the choices of this one."""
        if question != "step" or not self.running.any():
            raise out_of_turn()
        self.advance(whole_numbers(arrays, "choice", self.place.shape, WAIT, self.regions))
        return self.now()

    def measured(self, answer: "Arrays") -> Measured:
        """The cost of all choices. They are given again at the end, for the behaviour of the candidate."""
        if self.running.any():
            raise out_of_turn()
        choices = whole_numbers(answer, "choices", (len(self.chosen), len(self.place)), WAIT, self.regions)
        if not np.array_equal(choices, np.stack(self.chosen)):
            raise out_of_turn()
        count = self.counts
        ran = count["on_demand"] + count["spot"]
        return Measured(
            figure=float(np.mean(self.market.optimum / self.cost)),
            metrics={
                "dollars": float(self.cost.mean() / CENT_QUANTA),
                "optimum_dollars": float(self.market.optimum.mean() / CENT_QUANTA),
                "replaced": count["replaced"] / ran,
                "starts_per_day": 24 * count["starts"] / (ran * QUANTUM_H),
            },
            descriptors={
                "on_demand": count["on_demand"] / ran,
                "waiting": count["waiting"] / (count["waiting"] + ran),
            },
        )

    def advance(self, choice: "Ints") -> None:
        """One step of all traces that are not done."""
        market, job, traces = self.market, self.job, np.arange(len(choice))
        live = self.running
        self.chosen.append(np.where(live, choice, WAIT))
        spot = (choice >= 0) & (choice < self.regions)
        offered = market.available[self.step, traces, np.where(spot, choice, 0)]
        choice = np.where(spot & ~offered, WAIT, choice)
        done, _ = self._carried(choice)
        after = self.remaining - done
        restart = np.where(choice == self.regions, 0, job.restart)
        late = live & (after > 0) & (after + restart > STEP * (job.steps - self.step - 1))
        choice = np.where(late, self.regions, choice)
        done, overhead = self._carried(choice)

        spot = (choice >= 0) & (choice < self.regions)
        paid = np.where(live & (choice != WAIT), np.where(done < self.remaining, STEP, done + overhead), 0)
        cents = market.price[self.step, traces, np.where(spot, choice, 0)]
        self.cost += np.where(spot, cents, job.on_demand) * paid
        self._count(live, choice, paid, late)
        self.remaining = self.remaining - np.where(live, done, 0)
        self.home = np.where(live & spot, choice, self.home)
        self.place = np.where(live, choice, WAIT)
        self.step += 1
        if self.step < job.steps:  # what was lost is told with the new step
            on_spot = (self.place >= 0) & (self.place < self.regions)
            kept = market.available[self.step, traces, np.where(on_spot, self.place, 0)]
            self.place = np.where(on_spot & ~kept, WAIT, self.place)

    def _carried(self, choice: "Ints") -> tuple["Ints", "Ints"]:
        """Work done in this step and time lost to a start, in quanta [N]."""
        near = (choice == self.regions) | (choice == self.home)
        start = np.where(near, self.job.restart, self.job.migration)
        overhead = np.where(choice == self.place, 0, start)
        done = np.where(choice == WAIT, 0, np.minimum(self.remaining, STEP - overhead))
        return done, overhead

    def _count(self, live: "NDArray[np.bool_]", choice: "Ints", paid: "Ints", late: "NDArray[Any]") -> None:
        started = live & (choice != WAIT) & (choice != self.place)
        on_demand = choice == self.regions
        self.counts["on_demand"] += int(paid[on_demand].sum())
        self.counts["spot"] += int(paid[~on_demand].sum())
        self.counts["waiting"] += STEP * int((live & (choice == WAIT)).sum())
        self.counts["starts"] += int(started.sum())
        self.counts["moves"] += int((started & ~on_demand & (choice != self.home)).sum())
        self.counts["replaced"] += int(paid[late].sum())
