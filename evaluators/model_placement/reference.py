"""The pressure of a placement, slowly and obviously, and the smallest one that there is, with a proof.

A placement has a pressure of at most t if on every GPU the loads L and the sizes S of its models give
L <= t (memory - S), that is, if the weights L_m + t S_m of its models sum to at most t x memory: for a fixed t
this is packing into bins. The optimum is one of the finitely many ratios that a GPU can have, and the search
goes down from the best placement that is known until nothing below it can be packed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ROUNDING = 1e-9


@dataclass(frozen=True)
class Optimum:
    """The best placement, its pressure, and how many part placements were looked at to prove it."""

    pressure: float
    placement: tuple[int, ...]
    nodes: int


def pressure(
    placement: Sequence[int], load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float
) -> float:
    """The largest load over free memory of all GPUs; infinite where the memory of one is full."""
    worst = 0.0
    for gpu in range(gpus):
        models = [model for model, place in enumerate(placement) if place == gpu]
        free = memory_gb - sum(size_gb[model] for model in models)
        if free <= 0:
            return float("inf")
        worst = max(worst, sum(load[model] for model in models) / free)
    return worst


def optimum(load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float) -> Optimum:
    """The best placement, by branch and bound: exact, up to rounding.

    Each round asks for a placement that is better than the best known one. A round that finds none proves
    that there is none: it has tried every way of packing, but for those that only rename GPUs.
    """
    best = _greedy(load, size_gb, gpus, memory_gb)
    value = pressure(best, load, size_gb, gpus, memory_gb) if best else float("inf")
    nodes = 0
    while True:
        found, looked_at = _packed(load, size_gb, gpus, memory_gb, below=value)
        nodes += looked_at
        if found is None:
            if best is None:
                raise ValueError("the models do not fit on the GPUs at all")
            return Optimum(value, tuple(best), nodes)
        best, value = found, pressure(found, load, size_gb, gpus, memory_gb)


def _greedy(load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float) -> list[int] | None:
    """The models one after the other, the largest first, each where the pressure stays smallest."""
    loads, sizes, placement = [0.0] * gpus, [0.0] * gpus, [0] * len(load)
    for model in sorted(range(len(load)), key=lambda model: -(load[model] + size_gb[model])):
        open_to = [gpu for gpu in range(gpus) if sizes[gpu] + size_gb[model] < memory_gb]
        if not open_to:
            return None
        gpu = min(
            open_to,
            key=lambda gpu: (loads[gpu] + load[model]) / (memory_gb - sizes[gpu] - size_gb[model]),
        )
        placement[model] = gpu
        loads[gpu] += load[model]
        sizes[gpu] += size_gb[model]
    return placement


def _packed(
    load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float, below: float
) -> tuple[list[int] | None, int]:
    """A placement with a pressure below a limit, or None if there is none; and the part placements tried."""
    limit = below * (1 - ROUNDING) if below < float("inf") else 1e6
    weights = [a + limit * b for a, b in zip(load, size_gb, strict=True)]
    room = limit * memory_gb
    order = sorted(range(len(load)), key=lambda model: -weights[model])
    left = [0.0] * (len(order) + 1)  # weight of the models from each place in the order on
    for place in reversed(range(len(order))):
        left[place] = left[place + 1] + weights[order[place]]
    filled, placement, nodes = [0.0] * gpus, [-1] * len(load), 0
    sizes = [0.0] * gpus
    failed: set[tuple[int, tuple[float, ...]]] = set()

    def place_from(place: int) -> bool:
        nonlocal nodes
        if place == len(order):
            return True
        if left[place] > gpus * room - sum(filled):
            return False
        state = (place, tuple(sorted(round(weight, 7) for weight in filled)))
        if state in failed:  # the same GPUs in another order
            return False
        nodes += 1
        model, tried = order[place], set()
        for gpu in sorted(range(gpus), key=lambda gpu: -filled[gpu]):
            after = filled[gpu] + weights[model]
            if after > room or sizes[gpu] + size_gb[model] >= memory_gb or filled[gpu] in tried:
                continue
            tried.add(filled[gpu])
            filled[gpu], sizes[gpu], placement[model] = after, sizes[gpu] + size_gb[model], gpu
            if place_from(place + 1):
                return True
            filled[gpu], sizes[gpu] = after - weights[model], sizes[gpu] - size_gb[model]
        failed.add(state)
        return False

    return (placement if place_from(0) else None), nodes
