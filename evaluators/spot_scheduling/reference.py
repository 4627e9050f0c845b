"""Cost and optimum of one trace, slow and obviously right: quantum after quantum, choice after choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from evaluators.spot_scheduling.workloads import STEP, Job

WAIT = -1


@dataclass(frozen=True)
class State:
    """Where a job stands before a step."""

    remaining: int  # quanta
    home: int = 0
    place: int = WAIT


@dataclass(frozen=True)
class Trace:
    """What the market offers: for each step, for each region."""

    available: Sequence[Sequence[bool]]
    price: Sequence[Sequence[int]]


def cost(job: Job, trace: Trace, choices: Sequence[int]) -> int:
    """What the choices cost, in cents for an hour times quanta. Raises ValueError for a job that is late."""
    state, total = State(job.work), 0
    for step, choice in enumerate(choices):
        state, paid = ruled(job, trace, step, state, choice)
        total += paid
    if state.remaining:
        raise ValueError(f"{state.remaining} quanta are left")
    return total


def ruled(job: Job, trace: Trace, step: int, state: State, choice: int) -> tuple[State, int]:
    """A step under the rule of the deadline: the choice, or on demand in its place."""
    after, paid = taken(job, trace, step, state, choice)
    return (
        (after, paid)
        if is_safe(job, trace, step, after)
        else taken(job, trace, step, state, on_demand(trace))
    )


def is_safe(job: Job, trace: Trace, step: int, after: State) -> bool:
    """Whether a job in state `after` the step could be finished on demand from then on."""
    needed = after.remaining
    if needed and after.place != on_demand(trace):
        needed += job.restart
    return needed <= STEP * (job.steps - step - 1)


def taken(job: Job, trace: Trace, step: int, state: State, choice: int) -> tuple[State, int]:
    """The state after a step of this choice, and its cost; nobody looks at the deadline."""
    place, regions = state.place, on_demand(trace)
    if 0 <= place < regions and not trace.available[step][place]:
        place = WAIT  # preempted
    if 0 <= choice < regions and not trace.available[step][choice]:
        choice = WAIT
    if choice == WAIT or state.remaining == 0:
        return State(state.remaining, state.home, WAIT), 0
    start = 0
    if choice != place:
        start = job.restart if choice in (regions, state.home) else job.migration
    price = job.on_demand if choice == regions else trace.price[step][choice]
    remaining, paid = state.remaining, 0
    for quantum in range(STEP):
        if remaining:
            paid += price
            if quantum >= start:
                remaining -= 1
    return State(remaining, state.home if choice == regions else choice, choice), paid


def optimum(job: Job, trace: Trace) -> int:
    """The least cost of any choices that the rule of the deadline lets pass, all of them tried."""

    @cache
    def least(step: int, state: State) -> int:
        if not state.remaining:
            return 0
        return min(paid + least(step + 1, after) for after, paid in futures(step, state))

    def futures(step: int, state: State) -> Iterator[tuple[State, int]]:
        for choice in range(WAIT, on_demand(trace) + 1):
            yield ruled(job, trace, step, state, choice)

    return least(0, State(job.work))


def on_demand(trace: Trace) -> int:
    """The place of an on-demand instance: the number of regions."""
    return len(trace.available[0])
