"""The makespan of an order, slowly and obviously, and a bound below every order."""

from collections.abc import Sequence
from pathlib import Path

# Orders that `search.py` found, by the content of their batches.
BEST_KNOWN = Path(__file__).with_name("best_known.json")

Operation = tuple[int, bool]  # key, whether it is written
Transaction = Sequence[Operation]


def makespan(order: Sequence[int], transactions: Sequence[Transaction]) -> int:
    """When the last transaction ends, if each starts as early as it may, by every pair of conflicts."""
    start: dict[int, int] = {}
    for later in order:
        earliest = 0
        for earlier, began in start.items():
            for i, (key, write) in enumerate(transactions[earlier]):
                for j, (other, writes) in enumerate(transactions[later]):
                    if key == other and (write or writes):
                        earliest = max(earliest, began + i + 1 - j)
        start[later] = earliest
    return max(start[one] + len(transactions[one]) for one in order)


def bound(transactions: Sequence[Transaction]) -> int:
    """What no order can go below: the longest transaction, and the writers of any one key.

    From a writer's first operation on a key to its last write of it, no other transaction can write the
    key, whatever the order. So those spans lie one after the other; before the first one, its transaction
    has come that far, and after the last one, its transaction goes on.
    """
    longest = max(len(transaction) for transaction in transactions)
    spans: dict[
        int, list[tuple[int, int, int]]
    ] = {}  # key -> of each writer: operations before, within, after
    for transaction in transactions:
        for key in {key for key, write in transaction if write}:
            touched = [i for i, (other, _) in enumerate(transaction) if other == key]
            last = max(i for i in touched if transaction[i][1])
            spans.setdefault(key, []).append((touched[0], last + 1 - touched[0], len(transaction) - last - 1))
    chains = [
        min(before for before, _, _ in of)
        + sum(within for _, within, _ in of)
        + min(after for *_, after in of)
        for of in spans.values()
    ]
    return max([longest, *chains])
