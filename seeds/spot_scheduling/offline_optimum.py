"""Offline optimum: the cheapest schedule by one who knows the trace, from dynamic programming. A bound.

The judge puts the optimum in place of the program, which only waits for the deadline rule.
"""


def decide(
    elapsed, remaining, left, work, step, restart, migration, place, home, available, price, on_demand, memory
):
    return -1, memory
