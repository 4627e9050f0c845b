"""Generated batches of transactions in the manner of five well-known workloads, and what an order is worth.

The shapes of the transactions follow the benchmarks' descriptions; keys that nobody else touches (inserted
rows) are left out, but for the time that they take.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Measured, out_of_turn, permutation
from evaluators.transaction_scheduling.reference import BEST_KNOWN, bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Transactions = list[list[tuple[int, bool]]]
    Random = np.random.Generator

READ, WRITE = False, True
# stage -> seed of its random numbers, cases of each workload, transactions of each
STAGES = {
    "probe": (31, 1, 8),
    "second_probe": (32, 1, 8),
    "search": (33, 2, 40),
    "validation": (34, 2, 40),
    "holdout": (35, 2, 40),
}


@dataclass(frozen=True, eq=False)
class Batch:
    """Transactions to be ordered. It is its own play: an answer changes nothing of it."""

    keys: "NDArray[np.int64]"  # [T, L] the key of each operation; -1 behind the last one
    writes: "NDArray[np.bool_]"  # [T, L]

    def play(self) -> "Batch":
        return self

    def told(self) -> "Arrays":
        return {"keys": self.keys, "writes": self.writes}

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        raise out_of_turn()

    def measured(self, answer: "Arrays") -> Measured:
        order = permutation(answer, "order", len(self.keys))
        makespan, starts = self.played(order)
        rank = np.argsort(order)
        arrivals = np.arange(len(order))
        return Measured(
            figure=self.best_known / makespan,
            metrics={
                "makespan": float(makespan),
                "lower_bound": float(self.bound),
                "bound_over_makespan": self.bound / makespan,
            },
            descriptors={
                "reordering": float(np.abs(rank - arrivals).mean() / len(order)),
                "overtaking": float((np.diff(starts[order]) < 0).mean()) if len(order) > 1 else 0.0,
            },
        )

    def played(self, order: "NDArray[np.int64]") -> "tuple[int, NDArray[np.int64]]":
        """The makespan of an order, and when each transaction starts, [T]."""
        keys = self.keys.max() + 2  # the last one stands for none
        written, touched = np.zeros(keys, np.int64), np.zeros(keys, np.int64)
        positions = np.arange(self.keys.shape[1])
        starts = np.zeros(len(order), np.int64)
        for one in order:
            wanted, writes = self.keys[one], self.writes[one]
            free = np.where(writes, touched[wanted], written[wanted])
            start = max(0, int(np.where(wanted >= 0, free - positions, 0).max()))
            ends = start + positions + 1
            # Of a key that it has twice the later operation counts, which is what stays assigned.
            touched[wanted] = np.maximum(touched[wanted], ends)
            written[wanted[writes]] = ends[writes]
            starts[one] = start
        return int((starts + (self.keys >= 0).sum(1)).max()), starts

    @property
    def transactions(self) -> "Transactions":
        """The operations of each transaction, as (key, whether it is written)."""
        return [
            [(key, write) for key, write in zip(keys, writes, strict=True) if key >= 0]
            for keys, writes in zip(self.keys.tolist(), self.writes.tolist(), strict=True)
        ]

    @cached_property
    def bound(self) -> int:
        """What no order can go below, by `reference.bound`."""
        return bound(self.transactions)

    @cached_property
    def content(self) -> str:
        """What names the batch in the file of the best orders known."""
        return hashlib.sha256(self.keys.tobytes() + self.writes.tobytes()).hexdigest()[:16]

    @property
    def best_known(self) -> int:
        """The smallest makespan that a long search has found."""
        return best_known()[self.content]


@cache
def best_known() -> dict[str, int]:
    """The smallest makespans found, by the content of their batches."""
    known: dict[str, dict[str, int]] = json.loads(BEST_KNOWN.read_text(encoding="utf-8"))
    return {content: entry["makespan"] for content, entry in known.items()}


def cases(stage: str) -> tuple[Batch, ...]:
    """The cases of a stage, the same on every machine."""
    seed, repeats, transactions = STAGES[stage]
    random = np.random.Generator(np.random.Philox(key=seed))
    return tuple(
        batch(workload(random, transactions)) for workload in WORKLOADS.values() for _ in range(repeats)
    )


def batch(transactions: "Transactions") -> Batch:
    """The arrays of a list of transactions."""
    longest = max(len(transaction) for transaction in transactions)
    keys = np.full((len(transactions), longest), -1, np.int64)
    writes = np.zeros((len(transactions), longest), np.bool_)
    for number, transaction in enumerate(transactions):
        keys[number, : len(transaction)] = [key for key, _ in transaction]
        writes[number, : len(transaction)] = [write for _, write in transaction]
    return Batch(keys, writes)


def zipf(random: "Random", keys: int, skew: float, count: int) -> list[int]:
    """Different keys from 0 to keys - 1, small ones far more often."""
    weights = 1 / np.arange(1, keys + 1) ** skew
    chosen: list[int] = random.choice(keys, count, replace=False, p=weights / weights.sum()).tolist()
    return chosen


class Names:
    """Numbers for named keys, and keys that nobody else has."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[object, ...], int] = {}

    def read(self, *name: object) -> tuple[int, bool]:
        return self.numbers.setdefault(name, len(self.numbers)), READ

    def write(self, *name: object) -> tuple[int, bool]:
        return self.numbers.setdefault(name, len(self.numbers)), WRITE

    def insert(self) -> tuple[int, bool]:
        return self.write("inserted", len(self.numbers))


def tpcc(random: "Random", count: int) -> "Transactions":
    """TPC-C with two warehouses: its mix of transactions, with orders of two to six lines."""
    names = Names()
    batch = []
    for kind in random.choice(5, count, p=[0.45, 0.43, 0.04, 0.04, 0.04]):
        warehouse, district, customer = random.integers(2), random.integers(10), random.integers(30)
        home = (warehouse, district)
        items = zipf(random, 100, 0.8, int(random.integers(2, 7)))
        stocks = [("stock", warehouse, item) for item in items]
        if kind == 0:  # new order
            lines = [
                operation
                for item, stock in zip(items, stocks, strict=True)
                for operation in (names.read("item", item), names.read(*stock), names.write(*stock))
            ]
            head = [names.read("warehouse", warehouse), names.read("customer", *home, customer)]
            order_number = [names.read("district", *home), names.write("district", *home)]
            batch.append([*head, *order_number, names.insert(), *lines])
        elif kind == 1:  # payment
            owned = [("warehouse", warehouse), ("district", *home), ("customer", *home, customer)]
            batch.append([one for name in owned for one in (names.read(*name), names.write(*name))])
        elif kind == 2:  # order status
            batch.append([names.read("customer", *home, customer), names.insert(), names.insert()])
        elif kind == 3:  # delivery: the oldest order of each of some districts
            oldest = [("oldest", warehouse, one) for one in range(4)]
            batch.append([one for name in oldest for one in (names.read(*name), names.write(*name))])
        else:  # stock level
            batch.append([names.read("district", *home), *(names.read(*stock) for stock in stocks)])
    return batch


def smallbank(random: "Random", count: int) -> "Transactions":
    """SmallBank: transfers and balances of 40 customers, a few of whom have most of the traffic."""
    names = Names()
    batch = []
    for kind in random.integers(6, size=count):
        one, two = zipf(random, 40, 1.0, 2)
        savings, checking, other = ("savings", one), ("checking", one), ("checking", two)
        reads = [names.read("account", one)]
        if kind == 0:  # balance
            batch.append([*reads, names.read(*savings), names.read(*checking)])
        elif kind == 1:  # deposit checking
            batch.append([*reads, names.read(*checking), names.write(*checking)])
        elif kind == 2:  # transact savings
            batch.append([*reads, names.read(*savings), names.write(*savings)])
        elif kind == 3:  # amalgamate
            both = [names.read(*savings), names.read(*checking), names.write(*savings)]
            reads.append(names.read("account", two))
            batch.append([*reads, *both, names.write(*checking), names.read(*other), names.write(*other)])
        elif kind == 4:  # write check
            batch.append([*reads, names.read(*savings), names.read(*checking), names.write(*checking)])
        else:  # send payment
            both = [names.read(*checking), names.read(*other), names.write(*checking)]
            batch.append([*reads, names.read("account", two), *both, names.write(*other)])
    return batch


def ycsb(random: "Random", count: int) -> "Transactions":
    """YCSB, workload A: eight operations on keys with Zipf's law, half of them writes."""
    return [[(key, bool(random.random() < 0.5)) for key in zipf(random, 200, 0.9, 8)] for _ in range(count)]


def social(random: "Random", count: int) -> "Transactions":
    """A social graph: long reads of many objects, and a few writes of one object and its association."""
    batch = []
    for _ in range(count):
        if random.random() < 0.6:
            batch.append([(key, READ) for key in zipf(random, 150, 0.9, int(random.integers(4, 13)))])
        else:
            first = zipf(random, 150, 0.9, int(random.integers(2, 6)))
            batch.append([(key, bool(number >= len(first) - 2)) for number, key in enumerate(first)])
    return batch


def taxi(random: "Random", count: int) -> "Transactions":
    """Rides that count in the zone where they begin and in the one where they end, a few of which are hot."""
    names = Names()
    batch = []
    for _ in range(count):
        pickup, target = zipf(random, 12, 1.1, 2)
        driver, rider = int(random.integers(40)), int(random.integers(80))
        steps = [[names.read("rider", rider)], [names.read("driver", driver), names.write("driver", driver)]]
        zones = [[names.read("zone", zone), names.write("zone", zone)] for zone in (pickup, target)]
        # The application's versions differ in when they count.
        order = random.permutation(4)
        parts = [*steps, *zones]
        batch.append([operation for part in order for operation in parts[part]] + [names.insert()])
    return batch


WORKLOADS: "dict[str, Callable[[Random, int], Transactions]]" = {
    "tpcc": tpcc,
    "smallbank": smallbank,
    "ycsb": ycsb,
    "social": social,
    "taxi": taxi,
}
