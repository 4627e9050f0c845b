"""As it comes: rows and cells in the order of the table. The floor."""

import numpy as np


def hit_rate(rows, columns, values, lengths):
    """Tokens that a prompt has in common with the start of the one before it, of all."""
    rows, columns = np.asarray(rows), np.asarray(columns)
    texts = np.take_along_axis(values, columns, 1)[rows]
    tokens = np.take_along_axis(lengths, columns, 1)[rows]
    alike = np.cumprod(texts[1:] == texts[:-1], axis=1)
    return (alike * tokens[1:]).sum() / tokens.sum()


def reorder(values, lengths, capacity, block):
    columns = [list(range(values.shape[1])) for _ in values]
    rows = list(range(len(values)))
    return rows, columns
