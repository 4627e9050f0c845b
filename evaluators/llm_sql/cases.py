"""One table, and what a layout of it is worth."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Measured, out_of_turn, permutation, whole_numbers
from evaluators.evaluation import CandidateError, FailureKind
from evaluators.llm_sql import reference
from evaluators.llm_sql.cache import BLOCK, served

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Table:
    """A table to be laid out. It is its own play: an answer changes nothing of it."""

    values: "NDArray[np.int64]"  # [R, C] equal numbers are equal texts, with the name of the column in it
    lengths: "NDArray[np.int64]"  # [R, C] tokens of them
    capacity: int  # tokens that the cache holds

    def play(self) -> "Table":
        return self

    def told(self) -> "Arrays":
        return {
            "values": self.values,
            "lengths": self.lengths,
            "capacity": np.array(self.capacity),
            "block": np.array(BLOCK),
        }

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        raise out_of_turn()

    def measured(self, answer: "Arrays") -> Measured:
        rows = permutation(answer, "rows", len(self.values))
        columns = self.checked_columns(answer)
        found, unbounded = self.served(rows, columns, self.capacity), self.served(rows, columns, np.inf)
        total = int(self.lengths.sum())
        orders = Counter(map(tuple, columns.tolist()))
        first = np.take_along_axis(self.lengths, columns[:, :1], 1)[:, 0]
        return Measured(
            figure=sum(found) / total,
            metrics={
                "of_bound": sum(found) / total / self.bound if self.bound else 1.0,
                "with_unbounded_cache": sum(unbounded) / total,
                "rows_served_nothing": found.count(0) / len(found),
            },
            descriptors={
                "own_orders": 1 - max(orders.values()) / len(columns),
                "first_cell": float((first / self.lengths.sum(1)).mean()),
            },
        )

    def checked_columns(self, answer: "Arrays") -> "NDArray[np.int64]":
        """The column order of each row [R, C]. Raises CandidateError where a cell is missing or repeated."""
        columns = whole_numbers(answer, "columns", self.values.shape, 0, self.values.shape[1] - 1)
        wrong = np.flatnonzero((np.sort(columns, 1) != np.arange(columns.shape[1])).any(1))
        if len(wrong):
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                f"columns[{wrong[0]}] has to hold each of 0 .. {columns.shape[1] - 1} exactly once; it was "
                f"{columns[wrong[0]].tolist()} ({len(wrong)} rows are wrong in all).",
            )
        return columns

    def served(self, rows: "NDArray[np.int64]", columns: "NDArray[np.int64]", capacity: float) -> list[int]:
        """How many tokens of each prompt, in their order, come from a cache of `capacity` tokens."""
        values = np.take_along_axis(self.values, columns, 1)[rows].tolist()
        lengths = np.take_along_axis(self.lengths, columns, 1)[rows].tolist()
        return served(
            [list(zip(*cells, strict=True)) for cells in zip(values, lengths, strict=True)], capacity
        )

    @cached_property
    def bound(self) -> float:
        """Served over all tokens that no layout can pass: see `reference.bound`."""
        return reference.bound(self.values, self.lengths, BLOCK) / int(self.lengths.sum())
