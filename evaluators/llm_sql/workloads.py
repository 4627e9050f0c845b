"""Generated tables with what real ones have: joins that repeat long texts, columns that follow from others,
skewed categories, unique ids and reviews.

A column is drawn as a number for each row; the values of a column are texts that begin with its name, so no
value is in two columns. Rows and columns come in a random order, and ids say nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.llm_sql.cases import Table

# stage -> seed of its random numbers, tables of each kind, rows of a table, tokens that the cache holds
STAGES = {
    # Programs that lay a probe out alike count as the same one: it has to have something of everything.
    "probe": (31, 1, 32, (2048,)),
    "second_probe": (32, 1, 32, (2048,)),
    "search": (33, 2, 240, (2048, 4096, 8192)),
    "validation": (34, 2, 240, (2048, 4096, 8192)),
    "holdout": (35, 3, 240, (2048, 4096, 8192)),
}
SHORT = (3, 8)  # tokens of a name of a column and a category, a number or an id
LONG = 300  # tokens that a text has at most


@dataclass(frozen=True)
class Draw:
    """Columns of one table while they are drawn."""

    random: np.random.Generator
    rows: int

    def skewed(self, count: int, skew: float = 1.1) -> "NDArray[np.int64]":
        """One of `count` things for each row, the n-th one as often as n to the power of -skew [R]."""
        weight = np.arange(1, count + 1) ** -skew
        return self.random.choice(count, self.rows, p=weight / weight.sum())

    def of(self, things: "NDArray[np.int64]", count: int) -> "NDArray[np.int64]":
        """What follows from a thing: one of `count`, the same wherever the thing is [R]."""
        followed: NDArray[np.int64] = self.random.integers(count, size=things.max() + 1)[things]
        return followed

    def mostly_of(self, things: "NDArray[np.int64]", count: int, kept: float) -> "NDArray[np.int64]":
        """What follows from a thing with probability `kept`, and is anything else otherwise [R]."""
        other = self.random.integers(count, size=self.rows)
        return np.where(self.random.random(self.rows) < kept, self.of(things, count), other)

    def own(self) -> "NDArray[np.int64]":
        """A value of its own for each row [R]."""
        return np.arange(self.rows)


Column = tuple["NDArray[np.int64]", int]  # what each row has; tokens in the median if a text, 0 if short


def reviews(draw: Draw) -> list[Column]:
    """Reviews joined with what they are about, which has a long description."""
    film = draw.skewed(max(2, draw.rows // 8), 0.8)
    return [
        (film, 0),  # title
        (draw.own(), 60),  # text of the review
        (draw.of(film, draw.rows), 80),  # description
        (draw.of(film, 12), 0),  # genre
        (draw.of(film, draw.rows // 12 + 2), 12),  # company
        (draw.mostly_of(film, 5, 0.4), 0),  # stars
        (draw.skewed(2), 0),  # top critic
        (draw.skewed(max(2, draw.rows // 3), 0.6), 0),  # reviewer
    ]


def products(draw: Draw) -> list[Column]:
    """Products in variants: a text for each brand and for each product, ids for each variant."""
    product = draw.skewed(max(2, draw.rows // 5), 0.5)
    brand = draw.of(product, max(2, draw.rows // 20))
    return [
        (draw.own(), 0),  # id
        (draw.own(), 0),  # price
        (product, 16),  # name
        (draw.mostly_of(product, draw.rows, 0.8), 70),  # description, at times rewritten
        (brand, 0),
        (draw.of(brand, draw.rows), 50),  # about the brand
        (draw.of(product, 20), 6),  # category
        (draw.skewed(8), 0),  # colour
        (draw.skewed(6, 0.7), 0),  # size
    ]


def ratings(draw: Draw) -> list[Column]:
    """Many short columns: ratings that hang together, styles, makers, and a little text."""
    beer = draw.skewed(max(2, draw.rows // 6), 0.9)
    taste = draw.mostly_of(beer, 8, 0.6)
    return [
        (beer, 8),
        (draw.of(beer, max(2, draw.rows // 15)), 10),  # maker
        (draw.of(beer, 14), 6),  # style
        *((draw.mostly_of(taste, 8, 0.7), 0) for _ in range(4)),
        (taste, 0),
        (draw.skewed(max(2, draw.rows // 2), 0.9), 0),  # user
        (draw.own(), 25),
    ]


def evidence(draw: Draw) -> list[Column]:
    """Claims with passages that were retrieved for them; those of one topic share many, in any place."""
    topic = draw.skewed(max(2, draw.rows // 10), 0.6)
    passages = [(draw.mostly_of(topic, draw.rows // 2 + 2, kept), 90) for kept in (0.8, 0.6, 0.4)]
    return [(draw.own(), 20), *passages, (draw.skewed(3), 0), (draw.own(), 0)]


def tickets(draw: Draw) -> list[Column]:
    """Tickets of customers: regions follow from customers, answers from the kind of the ticket."""
    customer = draw.skewed(max(2, draw.rows // 6), 1.0)
    region = draw.of(customer, 6)
    kind = draw.skewed(12, 0.9)
    return [
        (draw.own(), 0),
        (customer, 0),
        (draw.of(customer, draw.rows), 40),  # contract
        (region, 0),
        (draw.of(region, 6), 30),  # rules of the region
        (kind, 0),
        (draw.of(kind, 12), 60),  # template of the answer
        (draw.mostly_of(kind, 4, 0.7), 0),  # urgency
        (draw.own(), 35),
    ]


KINDS: dict[str, Callable[[Draw], list[Column]]] = {
    "reviews": reviews,
    "products": products,
    "ratings": ratings,
    "evidence": evidence,
    "tickets": tickets,
}


def cases(stage: str) -> tuple[Table, ...]:
    """The tables of a stage, the same on every machine."""
    seed, repeats, rows, capacities = STAGES[stage]
    random = np.random.Generator(np.random.Philox(key=seed))
    return tuple(
        _table(random, KINDS[kind], rows, capacities[number % len(capacities)])
        for number, kind in enumerate([*KINDS] * repeats)
    )


def _table(
    random: np.random.Generator, kind: Callable[[Draw], list[Column]], rows: int, capacity: int
) -> Table:
    values, lengths, taken = [], [], 0
    for things, median in kind(Draw(random, rows)):
        size = things.max() + 1
        short = random.integers(*SHORT, size=size)
        text = np.minimum(LONG, np.ceil(np.exp(random.normal(np.log(median or 1), 0.4, size)))).astype(int)
        values.append(things + taken)
        lengths.append(np.where(median > 0, text + short, short)[things])
        taken += size
    renamed = random.permutation(taken)
    chosen = np.ix_(random.permutation(rows), random.permutation(len(values)))
    return Table(
        np.ascontiguousarray(renamed[np.stack(values, 1)][chosen]).astype(np.int64),
        np.ascontiguousarray(np.stack(lengths, 1)[chosen]).astype(np.int64),
        capacity,
    )
