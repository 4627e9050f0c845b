"""Spanning tree: each row after another that shares the most of its tokens, in whatever order. A bound.

No layout can be served more than a heaviest spanning tree of the rows weighs; the judge puts this figure in
place of the program, which lays the table out as it comes.
"""


def reorder(values, lengths, capacity, block):
    columns = [list(range(values.shape[1])) for _ in values]
    return list(range(len(values))), columns
