"""Slow and obviously right: one query of one head at a time, in float64, as the formulas are written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from evaluators.token_selection.reference import dense_output, estimate, relative_error

if TYPE_CHECKING:
    from evaluators.prefill_selection.workloads import Layer


def row_error(layer: "Layer", number: int, head: int, row: int, columns: Sequence[int]) -> float:
    """Relative error of one query's output when its block computes `columns` and its own tokens."""
    block = layer.blocks[number]
    group = head // (layer.heads // len(layer.keys))
    seen = block.begin + row + 1
    query = block.queries[head, row]
    keys, values = (part[group, :seen].astype(np.float32) for part in (layer.keys, layer.values))
    kept = sorted({column for column in columns if column < seen} | set(range(block.begin, seen)))
    return relative_error(
        estimate(query, keys, values, kept, [1.0] * len(kept)), dense_output(query, keys, values)
    )


def computed_fraction(
    layer: "Layer", columns: "Sequence[np.ndarray]", own: Sequence[int], shared: int
) -> float:
    """Of dense attention, counted query by query and column by column: `columns` [H, end] of each block,
    products to decide on each block and for the whole prompt.
    """
    prompt = layer.keys.shape[1]
    dense = sum(2 * layer.heads * block.rows * block.end for block in layer.blocks)
    computed = sum(
        2
        for block, chosen in zip(layer.blocks, columns, strict=True)
        for head in range(layer.heads)
        for _ in range(block.rows)
        for column in range(block.end)
        if chosen[head, column] or column >= block.begin
    )
    whole, end = 0, prompt
    while end > 0:  # blocks of 64 queries from the end on; the first one may be shorter
        whole += 2 * layer.heads * min(64, end) * end
        end -= 64
    return min(1.0, (computed + sum(own)) / dense + shared / whole)
