"""The market as a candidate meets it: step by step, with the future left out, and a deadline that holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Measured, out_of_turn, whole_numbers
from evaluators.spot_scheduling.workloads import QUANTUM_H, STEP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.spot_scheduling.workloads import Market

    Arrays = Mapping[str, NDArray[Any]]

WAIT = -1
CENT_QUANTA = 100 / QUANTUM_H  # of these (cents for an hour, times quanta) make a dollar


@dataclass
class Run:
    """A job on one trace; times in quanta, cost in cents for an hour times quanta."""

    remaining: int
    place: int = WAIT
    home: int = 0  # region of the last checkpoint
    cost: int = 0


@dataclass
class Counts:
    """What happened on all traces; times in quanta."""

    spot: int = 0
    on_demand: int = 0
    replaced: int = 0  # of `on_demand`, what the rule of the deadline ordered
    waiting: int = 0
    starts: int = 0


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
        self.runs = [Run(self.job.work) for _ in range(traces)]
        self.chosen: list[NDArray[np.int64]] = []
        self.counts = Counts()

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
        if self.is_done:
            return {}
        return {
            "elapsed": np.array(self.step * STEP * QUANTUM_H),
            "left": np.array((self.job.steps - self.step) * STEP * QUANTUM_H),
            "remaining": np.array([run.remaining for run in self.runs]) * QUANTUM_H,
            "place": np.array([run.place for run in self.runs]),
            "home": np.array([run.home for run in self.runs]),
            "available": self.market.available[self.step],
            "price": self.market.price[self.step] / 100,
        }

    @property
    def is_done(self) -> bool:
        """Whether no trace has work left."""
        return not any(run.remaining for run in self.runs)

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        """The next step, after the choices of this one."""
        if question != "step" or self.is_done:
            raise out_of_turn()
        self.advance(whole_numbers(arrays, "choice", (len(self.runs),), WAIT, self.regions))
        return self.now()

    def measured(self, answer: "Arrays") -> Measured:
        """The cost of all choices. They are given again at the end, for the behaviour of the candidate."""
        if not self.is_done:
            raise out_of_turn()
        shape = (len(self.chosen), len(self.runs))
        choices = whole_numbers(answer, "choices", shape, WAIT, self.regions)
        if not np.array_equal(choices, np.stack(self.chosen)):
            raise out_of_turn()
        count, cost = self.counts, np.array([run.cost for run in self.runs])
        ran = count.spot + count.on_demand
        return Measured(
            figure=float(np.mean(self.market.optimum / cost)),
            metrics={
                "dollars": float(cost.mean() / CENT_QUANTA),
                "optimum_dollars": float(self.market.optimum.mean() / CENT_QUANTA),
                "replaced": count.replaced / ran,
                "starts_per_day": 24 * count.starts / (ran * QUANTUM_H),
            },
            descriptors={
                "on_demand": count.on_demand / ran,
                "waiting": count.waiting / (count.waiting + ran),
            },
        )

    def advance(self, choices: "NDArray[np.int64]") -> None:
        """One step of all traces that are not done; what is lost after it is told with the next one."""
        self.chosen.append(choices)
        available = self.market.available[self.step].tolist()
        prices = self.market.price[self.step].tolist()
        last = self.step + 1 == self.job.steps
        then = available if last else self.market.available[self.step + 1].tolist()
        for run, choice, offers, price, kept in zip(
            self.runs, choices.tolist(), available, prices, then, strict=True
        ):
            if run.remaining:
                self._carry_on(run, choice, [*offers, True], [*price, self.job.on_demand])
                if run.place != WAIT and not [*kept, True][run.place]:
                    run.place = WAIT
        self.step += 1

    def _carry_on(self, run: Run, choice: int, offered: list[bool], cents: list[int]) -> None:
        """One step of one trace; `offered` and `cents` are those of every place."""
        if not offered[choice]:  # WAIT is -1, the last place, which is always to be had
            choice = WAIT
        replaced = self._is_late(run, choice)
        if replaced:
            choice = self.regions
        if choice == WAIT:
            run.place = WAIT
            self.counts.waiting += STEP
            return
        done = self._done(run, choice)
        start = self._start(run, choice)
        paid = STEP if done < run.remaining else start + done
        self.counts.starts += choice != run.place
        run.remaining -= done
        run.cost += cents[choice] * paid
        run.place = choice
        if choice == self.regions:
            self.counts.on_demand += paid
            self.counts.replaced += paid if replaced else 0
        else:
            self.counts.spot += paid
            run.home = choice

    def _is_late(self, run: Run, choice: int) -> bool:
        """Whether the job could not be finished on demand after a step of this choice."""
        needed = run.remaining - self._done(run, choice)
        if needed and choice != self.regions:
            needed += self.job.restart
        return needed > STEP * (self.job.steps - self.step - 1)

    def _done(self, run: Run, choice: int) -> int:
        """Work that is done in a step of this choice."""
        return 0 if choice == WAIT else min(run.remaining, STEP - self._start(run, choice))

    def _start(self, run: Run, choice: int) -> int:
        """Time that is lost to the start of an instance."""
        if choice == run.place:
            return 0
        return self.job.restart if choice in (self.regions, run.home) else self.job.migration
