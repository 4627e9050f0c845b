"""What a policy has multiplied to decide, and what it computes, is done and counted here, outside the
sandbox.

The unit is a product of two vectors of the head size. Dense attention takes two of them for each query and
column of a block: one for the score, one for the value. A score that is read to decide takes one, in exact
numbers or between means; a mean takes one for each vector that goes into it. What is read at the end of the
prompt, and means of keys, serve all blocks of the prompt: they count relative to all of it, what is read in
a block relative to the blocks that are scored.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.prefill_selection.workloads import dense_products, prompt_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.prefill_selection.workloads import Layer, QueryBlock

MOST_SCORES = 16 << 20  # of one answer


class Meter:
    """The products of one layer of one context, block after block."""

    def __init__(self, layer: "Layer", oracle: bool) -> None:
        """At the beginning the end of the prompt is looked at. An oracle decides for free."""
        self.layer = layer
        self.oracle = oracle
        self.block: QueryBlock = layer.last
        self.number: int | None = None  # of the block among those that are scored
        self.shared = 0  # products that serve the whole prompt
        self.own = 0  # products to decide on this block
        self.pooled: set[int] = set()  # sizes of which there are means of keys
        self.has_mean_query = False
        self.computed = np.zeros((layer.heads, 0), bool)

    def next(self) -> bool:
        """Goes on to the next block; False where there is none."""
        self.number = 0 if self.number is None else self.number + 1
        if self.number == len(self.layer.blocks):
            return False
        self.block = self.layer.blocks[self.number]
        self.own, self.has_mean_query = 0, False
        self.computed = np.zeros((self.layer.heads, self.block.end), bool)
        self.computed[:, self.block.begin :] = True  # the diagonal: every token attends to itself
        return True

    @cached_property
    def prompt(self) -> int:
        """Products of dense attention for the whole prompt."""
        return prompt_products(self.layer.heads, self.layer.keys.shape[1])

    @cached_property
    def base(self) -> float:
        """The part of dense attention that is always computed: the columns on the diagonal."""
        blocks = self.layer.blocks
        return sum(block.rows for block in blocks) / sum(block.end for block in blocks)

    def spent(self) -> float:
        """What was computed so far, as a fraction of dense attention: what it comes to where all blocks are
        treated like this one, each in proportion to the columns before it.
        """
        spent = self.base + self.shared / self.prompt
        if self.number is None:
            return spent
        heads, begin = self.layer.heads, self.block.begin
        columns = int(np.count_nonzero(self.computed[:, :begin])) / heads
        columns += self.own / dense_products(heads, self.block.rows, 1)
        return spent + columns * (1 - self.base) / begin

    def choose(self, columns: "NDArray[np.bool_]") -> None:
        """Takes the selection of a policy, [H, end]."""
        self.computed |= columns

    def answer(self, question: str, asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The scores that a question asks for, and what has been spent with them.

        Raises CandidateError for a question that has no answer.
        """
        match question:
            case "scores":
                found = self._scores(asked)
            case "means":
                found = self._means(asked)
            case "compute" if self.number is not None:
                columns = self._columns(asked)
                self.computed[np.arange(self.layer.heads)[:, None], columns] = True
                found = self._products(np.arange(self.block.rows), columns)
            case "compute":
                raise CandidateError(
                    FailureKind.INTERFACE, "observe can compute no columns: its block is not scored."
                )
            case _:
                raise _misled()
        return {"scores": found, "spent": np.array(self.spent())}

    def _scores(self, asked: Mapping[str, np.ndarray]) -> "NDArray[np.float32]":
        rows = asked.get("rows")
        if rows is None or rows.dtype != np.int32 or rows.ndim != 1 or len(rows) > self.block.rows:
            raise _misled()
        if rows.size and (rows.min() < 0 or rows.max() >= self.block.rows):
            raise _misled()
        found = self._products(rows, self._columns(asked) if "columns" in asked else None)
        self._charge(found.size)
        return found

    def _means(self, asked: Mapping[str, np.ndarray]) -> "NDArray[np.float32]":
        size = asked.get("size")
        if size is None or size.shape != () or size.dtype.kind not in "iu" or not 1 <= size <= self.block.end:
            raise _misled()
        keys = self.keys[:, : self.block.end]
        kv_heads, tokens, width = keys.shape
        if size > 1:
            starts = np.arange(0, tokens, int(size))
            counts = np.diff([*starts, tokens])[:, None]
            keys = (np.add.reduceat(keys, starts, axis=1) / counts).astype(np.float32)
            if int(size) not in self.pooled and not self.oracle:
                self.pooled.add(int(size))
                self.shared += self.keys.shape[0] * self.keys.shape[1]
        query = self.block.queries.mean(1).reshape(kv_heads, -1, width)
        found = query @ keys.swapaxes(1, 2) / np.float32(np.sqrt(width))
        self._charge(found.size + (0 if self.has_mean_query else self.layer.heads * self.block.rows))
        self.has_mean_query = True
        return np.ascontiguousarray(found.reshape(self.layer.heads, -1), np.float32)

    def _charge(self, products: int) -> None:
        if self.oracle:
            return
        if self.number is None:
            self.shared += products
        else:
            self.own += products

    def _products(
        self, rows: "NDArray[np.integer]", columns: "NDArray[np.int32] | None"
    ) -> "NDArray[np.float32]":
        """Exact scores [H, r, m]; -inf for tokens behind the query."""
        heads, _, width = self.block.queries.shape
        count = self.block.end if columns is None else columns.shape[1]
        if heads * len(rows) * count > MOST_SCORES:
            raise CandidateError(
                FailureKind.MEMORY, f"One question asks for more than {MOST_SCORES:,} scores."
            )
        queries, kv_heads = self.block.queries[:, rows], len(self.keys)
        seen = self.block.begin + np.asarray(rows)
        if columns is None:
            grouped = queries.reshape(kv_heads, -1, width)
            found = grouped @ self.keys[:, :count].swapaxes(1, 2)
            found = found.reshape(heads, len(rows), count)
            behind = np.arange(count) > seen[:, None]
        else:
            group = np.arange(heads)[:, None] // (heads // kv_heads)
            found = queries @ self.keys[group, columns].swapaxes(1, 2)
            behind = columns[:, None] > seen[:, None]
        found = (found / np.float32(np.sqrt(width))).astype(np.float32)
        return np.where(behind, np.float32(-np.inf), found)

    @cached_property
    def keys(self) -> "NDArray[np.float32]":
        return self.layer.keys.astype(np.float32)

    def _columns(self, asked: Mapping[str, np.ndarray]) -> "NDArray[np.int32]":
        columns = asked.get("columns")
        if columns is None or columns.dtype != np.int32 or columns.ndim != 2:
            raise _misled()
        if len(columns) != self.layer.heads or columns.shape[1] > self.block.end:
            raise _misled()
        if columns.size and (columns.min() < 0 or columns.max() >= self.block.end):
            raise _misled()
        return columns


def _misled() -> CandidateError:
    return CandidateError(
        FailureKind.INVALID_OUTPUT, "The judge was asked something that it does not answer."
    )
