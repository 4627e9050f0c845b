"""The figures of a placement, slow and obviously right, and the bound that no placement can pass."""

import heapq
from collections.abc import Sequence
from fractions import Fraction


def balance(placed: Sequence[int], loads: Sequence[int], gpus: int) -> Fraction:
    """Mean over largest load of a GPU in one layer, exactly.

    `placed` is the expert of each slot, the slots of GPU 0 first; `loads` the tokens of each expert.
    """
    slots_per_gpu = len(placed) // gpus
    carried = [Fraction(0)] * gpus
    for slot, expert in enumerate(placed):
        carried[slot // slots_per_gpu] += Fraction(loads[expert], placed.count(expert))
    return sum(carried, Fraction(0)) / gpus / max(carried)


def bound(loads: Sequence[int], gpus: int, slots: int) -> float:
    """A balance that no placement of one layer can pass, by one who knows the loads.

    Let M be the largest load of a GPU. M is at least the mean load, and at least the share of any replica:
    M >= max_e loads[e] / r[e] for the replicas r that the placement chose, each at least 1, `slots` in all.
    The right side is smallest if spare slots go one after the other to the expert whose share is largest
    then: as long as any expert has a share above t, every r with all shares <= t gives it one more, so the
    greedy choice never exceeds the r of a best solution before it is as good. So
    M >= max(mean, greedy share), and mean / M <= mean / max(mean, greedy share).
    """
    shares = [(-float(load), load, 1) for load in loads]
    heapq.heapify(shares)
    for _ in range(slots - len(loads)):
        _, load, count = shares[0]
        heapq.heapreplace(shares, (-load / (count + 1), load, count + 1))
    mean = sum(loads) / gpus
    return mean / max(mean, -shares[0][0])
