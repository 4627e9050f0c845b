"""Shared cells first: groups as in GGR, by the tokens that they save, with all that a group shares in front.

Besides the value that makes a group and what follows from it everywhere, cells that are equal within this
group alone come in front, too: they are hits for all of its rows, whatever is done with the rest.
"""

import numpy as np

POWER = 1.0  # of the length of a value that comes again
CROWD = 0.0  # how much less the rows of a large group count, as a power of their number
FOLLOWING = 1.0  # weight of what follows from a value


def dependent(values):
    """For each column, those whose value follows from its value."""
    distinct = [len(np.unique(column)) for column in values.T]
    count = values.shape[1]
    found = []
    for one in range(count):
        pairs = [len(np.unique(values[:, [one, other]], axis=0)) for other in range(count)]
        found.append([other for other in range(count) if other != one and pairs[other] == distinct[one]])
    return found


def best_group(values, worth, rows, columns, follows):
    """The column and the value that save the most, and how much."""
    best = (0.0, -1, -1)
    for column in columns:
        texts, first, counts = np.unique(values[rows, column], return_index=True, return_counts=True)
        saved = worth[rows[first], column]
        for other in follows[column]:
            if other in columns:
                saved = saved + FOLLOWING * worth[rows[first], other]
        saved = saved * (counts - 1) / counts**CROWD
        place = int(np.argmax(saved))
        if saved[place] > best[0]:
            best = (saved[place], column, texts[place])
    return best


def grouped(values, worth, rows, columns, follows):
    """Pairs of a row and the order of its cells, group by group."""
    laid = []
    while len(rows):
        saved, column, text = best_group(values, worth, rows, columns, follows)
        if saved <= 0:
            return laid + [(row, columns) for row in rows.tolist()]
        inside = values[rows, column] == text
        group = values[rows[inside]]
        head = [column] + [one for one in columns if one != column and (group[:, one] == group[0, one]).all()]
        rest = [other for other in columns if other not in head]
        for row, order in grouped(values, worth, rows[inside], rest, follows):
            laid.append((row, head + order))
        rows = rows[~inside]
    return laid


def reorder(values, lengths, capacity, block):
    count = values.shape[1]
    laid = grouped(values, lengths**POWER, np.arange(len(values)), list(range(count)), dependent(values))
    rows = [row for row, _ in laid]
    columns = [order for _, order in sorted(laid)]
    return rows, columns
