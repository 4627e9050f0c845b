"""The pressure of a placement, slowly and obviously, and the smallest one that there is, with a proof.

A placement has a pressure below t = p / q exactly if on every GPU the loads L and the sizes S of its models
give q L + p S < p x memory: for a fixed t this is packing into bins, in whole numbers once loads and sizes
are brought to a common denominator. The smallest pressure is one of the finitely many ratios that a GPU can
have; from the best placement known, the search goes down ratio by ratio until nothing below can be packed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm


@dataclass(frozen=True)
class Optimum:
    """The best placement, its pressure, and how many part placements were looked at to prove it."""

    pressure: Fraction
    placement: tuple[int, ...]
    nodes: int


@dataclass(frozen=True)
class _Packing:
    """Items in the order in which they are packed, the heaviest first, and bins that all have one room."""

    weights: list[int]  # [M]
    room: int  # what a bin holds has to stay below it
    bins: int


def pressure(
    placement: Sequence[int], load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float
) -> Fraction | float:
    """The largest load over free memory of all GPUs, exactly; infinite where the memory of one is full."""
    ratios = []
    for gpu in range(gpus):
        models = [model for model, place in enumerate(placement) if place == gpu]
        free = Fraction(memory_gb) - sum(Fraction(size_gb[model]) for model in models)
        if free <= 0:
            return float("inf")
        ratios.append(sum((Fraction(load[model]) for model in models), Fraction(0)) / free)
    return max(ratios)


def balanced(load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float) -> Fraction:
    """A bound below every placement: all load over all memory that is left.

    The GPUs' ratios have this one as their weighted mean, so that the largest cannot be smaller.
    """
    free = gpus * Fraction(memory_gb) - sum(map(Fraction, size_gb))
    return sum(map(Fraction, load), Fraction(0)) / free


def optimum(load: Sequence[float], size_gb: Sequence[float], gpus: int, memory_gb: float) -> Optimum:
    """The best placement, exactly. Raises ValueError if the models fit in no way.

    Each round asks for a placement that is better than the best known one. The last one finds none, and is
    the proof: it has tried every way of packing, but for those that only rename GPUs or exceed the room.
    """
    numbers = [*map(Fraction, load), *map(Fraction, size_gb), Fraction(memory_gb)]
    common = lcm(*(number.denominator for number in numbers))
    whole = [int(number * common) for number in numbers]
    loads, sizes, memory = whole[: len(load)], whole[len(load) : -1], whole[-1]
    # Below a pressure that no placement has, only memory counts.
    limit = Fraction(sum(loads) + 1, 1)
    best, nodes = None, 0
    while True:
        p, q = limit.numerator, limit.denominator
        weights = [q * a + p * b for a, b in zip(loads, sizes, strict=True)]
        order = sorted(range(len(weights)), key=lambda model: -weights[model])
        packing = _Packing([weights[model] for model in order], p * memory, gpus)
        found, looked_at = _packed(packing)
        nodes += looked_at
        if found is None:
            break
        placement = [0] * len(order)
        for model, gpu in zip(order, found, strict=True):
            placement[model] = gpu
        better = pressure(placement, load, size_gb, gpus, memory_gb)
        assert isinstance(better, Fraction), "what is packed has to fit"
        best, limit = tuple(placement), better
    if best is None:
        raise ValueError(f"The models do not fit on {gpus} GPUs of {memory_gb:g} GB in any way.")
    return Optimum(limit, best, nodes)


def _packed(packing: _Packing) -> tuple[list[int] | None, int]:
    """A bin for each item, or None if there is no way; and how many part packings were tried."""
    weights, room = packing.weights, packing.room
    left = [sum(weights[item:]) for item in range(len(weights) + 1)]
    filled, chosen, nodes = [0] * packing.bins, [0] * len(weights), 0
    failed: set[tuple[int, tuple[int, ...]]] = set()

    def pack(item: int) -> bool:
        nonlocal nodes
        if item == len(weights):
            return max(filled) < room
        if left[item] > packing.bins * (room - 1) - sum(filled):
            return False
        state = (item, tuple(sorted(filled)))
        if state in failed:  # the same bins in another order
            return False
        nodes += 1
        tried = set()
        for bin in sorted(range(packing.bins), key=lambda bin: -filled[bin]):
            before = filled[bin]
            if before in tried or before + weights[item] >= room:
                continue
            tried.add(before)
            filled[bin], chosen[item] = before + weights[item], bin
            if pack(item + 1):
                return True
            filled[bin] = before
        failed.add(state)
        return False

    return (chosen if pack(0) else None), nodes
