"""GGR: Greedy Group Recursion; the rows of the value that saves the most come first, and so on within them.

Liu et al., "Optimizing LLM Queries in Relational Data Analytics Workloads", MLSys 2025, arXiv:2403.05821,
algorithm 1: a value of n rows is worth its squared length, with those of the columns that follow from it,
times n - 1. Functional dependencies are found in the table itself. The recursion goes to the end: tables are
small here, and the published early stop is for speed.
"""

import numpy as np

POWER = 2.0  # of the length of a value that comes again


def dependent(values):
    """For each column, those whose value follows from its value."""
    distinct = [len(np.unique(column)) for column in values.T]
    count = values.shape[1]
    found = []
    for one in range(count):
        pairs = [len(np.unique(values[:, [one, other]], axis=0)) for other in range(count)]
        found.append([other for other in range(count) if other != one and pairs[other] == distinct[one]])
    return found


def best_group(values, squares, rows, columns, follows):
    """The column and the value that save the most, and how much."""
    best = (0.0, -1, -1)
    for column in columns:
        texts, first, counts = np.unique(values[rows, column], return_index=True, return_counts=True)
        saved = squares[rows[first], column]
        for other in follows[column]:
            if other in columns:
                saved = saved + squares[rows[first], other]
        saved = saved * (counts - 1)
        place = int(np.argmax(saved))
        if saved[place] > best[0]:
            best = (saved[place], column, texts[place])
    return best


def grouped(values, squares, rows, columns, follows):
    """Pairs of a row and the order of its cells, group by group."""
    laid = []
    while len(rows):
        saved, column, text = best_group(values, squares, rows, columns, follows)
        if saved <= 0:
            return laid + [(row, columns) for row in rows.tolist()]
        inside = values[rows, column] == text
        head = [column] + [other for other in follows[column] if other in columns]
        rest = [other for other in columns if other not in head]
        for row, order in grouped(values, squares, rows[inside], rest, follows):
            laid.append((row, head + order))
        rows = rows[~inside]
    return laid


def reorder(values, lengths, capacity, block):
    count = values.shape[1]
    laid = grouped(values, lengths**POWER, np.arange(len(values)), list(range(count)), dependent(values))
    rows = [row for row, _ in laid]
    columns = [order for _, order in sorted(laid)]
    return rows, columns
