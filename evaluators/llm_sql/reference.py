"""Served tokens counted token by token, slowly and obviously, and the bound that no layout can pass."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def served(
    rows: Sequence[int],
    columns: Sequence[Sequence[int]],
    values: Sequence[Sequence[int]],
    lengths: Sequence[Sequence[int]],
    *,
    capacity: int,
    block: int,
) -> int:
    """How many tokens of all prompts are served from the cache.

    `last_use` says of each cached block, which is known by every token up to its end, when it was used last.
    """
    last_use: dict[tuple[tuple[int, int], ...], int] = {}
    now = hits = 0
    for row in rows:
        tokens = [(values[row][c], place) for c in columns[row] for place in range(lengths[row][c])]
        prefixes = [tuple(tokens[:end]) for end in range(block, len(tokens) + 1, block)]
        for prefix in prefixes:
            if prefix not in last_use:
                break
            hits += block
        for prefix in prefixes[::-1]:
            now += 1
            last_use[prefix] = now
        while len(last_use) * block > capacity:
            del last_use[min(last_use, key=lambda prefix: last_use[prefix])]
    return hits


def bound(values: "NDArray[np.int64]", lengths: "NDArray[np.int64]", block: int) -> int:
    """Served tokens that no layout of a table can pass, with a cache of any size; values, lengths [R, C].

    Proof. Take any layout. What a row r is served, h(r) tokens, are whole blocks that an earlier row s(r)
    has put into the cache: both prompts begin with the same h(r) tokens. Tokens of different values differ,
    so each of these tokens belongs to a value that both rows have, and
        h(r) <= w(r, s(r)),  w(r, s) = tokens of the values that r and s share, rounded down to blocks.
    A row that is served nothing may take any earlier row for s(r). Now the edges r - s(r) of all rows but the
    first join every row to an earlier one: they are a spanning tree of the rows. So the sum of h is at most
    the weight of a spanning tree under w, and no more than that of a heaviest one. That is found by Prim's
    algorithm ("Shortest connection networks and some generalizations", Bell System Technical Journal 36,
    1957).
    """
    shared = np.zeros((len(values), len(values)), np.int64)
    for column, length in zip(values.T, lengths.T, strict=True):
        shared += (column[:, None] == column) * length
    weight = shared // block * block
    nearest = weight[0].copy()  # the heaviest edge from each row to the tree
    outside = np.arange(len(values)) > 0
    total = 0
    for _ in range(len(values) - 1):
        row = int(np.where(outside, nearest, -1).argmax())
        total += int(nearest[row])
        outside[row] = False
        nearest = np.maximum(nearest, weight[row])
    return total
