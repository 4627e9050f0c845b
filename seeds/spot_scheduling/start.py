"""On demand only: one instance from the first step to the last, at the full price. The floor."""


def decide(
    elapsed, remaining, left, work, step, restart, migration, place, home, available, price, on_demand, memory
):
    return len(available), memory
