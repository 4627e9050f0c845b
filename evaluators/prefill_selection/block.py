"""One query block as a policy sees it inside the sandbox.

Nothing here is trusted, and no workload lies behind it: queries and keys are with the judge, outside, which
multiplies what it is asked to and charges it (`meter.py`). A policy gets products, never the vectors:
whoever held these could score everything for free.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Arrays = Mapping[str, np.ndarray]
    Ask = Callable[[str, Arrays], Arrays]


class Block:
    """The queries of M consecutive tokens, begin .. end - 1, and the keys up to the last of them.

    `spent` is what was computed so far, as a fraction of dense attention, if all blocks are treated like this
    one: its own columns, which are always computed, what was computed to decide, and
    its part of what was spent once for the whole prompt.
    """

    def __init__(self, ask: "Ask", turn: "Arrays") -> None:
        self._ask = ask
        self.heads, self.kv_heads, self.begin, self.end, self.prompt, self.layer, self.layers = (
            int(number) for number in turn["shape"]
        )
        self.spent, self._base = float(turn["spent"]), float(turn["base"])

    @property
    def rows(self) -> int:
        """M, its own tokens."""
        return self.end - self.begin

    def affordable(self, budget: float) -> int:
        """How many more columns each head may compute within `budget`; all of them at 100%."""
        if budget >= 1:
            return self.end
        left = (budget - self.spent) / (1 - self._base)
        return max(0, min(self.begin, int(left * self.begin + 1e-6)))

    def scores(self, rows: "Tensor", columns: "Tensor | None" = None) -> "Tensor":
        """Scores [H, r, m] of single queries `rows` [r], 0 .. M - 1, and `columns` [m] or [H, m]; by default
        all columns. What a query does not see is -inf. Charged: a score each.
        """
        asked = {"rows": self._numbers(rows, self.rows, "rows", 1)}
        if columns is not None:
            asked["columns"] = self._columns(columns)
        return self._read("scores", asked)

    def mean_scores(self, size: int = 1) -> "Tensor":
        """Scores [H, n] of the mean query with the means of every `size` keys; the last of them may have
        fewer. Charged: a score for each of the n, and one for each vector that goes into a mean.
        """
        if not isinstance(size, int) or not 1 <= size <= self.end:
            raise CandidateError(
                FailureKind.INTERFACE,
                f"block.mean_scores takes a whole number of keys from 1 to {self.end}.",
            )
        return self._read("means", {"size": np.array(size)})

    def compute(self, columns: "Tensor") -> "Tensor":
        """Scores [H, M, m] of `columns` [m] or [H, m], which are computed with it and so selected.

        Charged: the columns, and nothing besides.
        """
        return self._read("compute", {"columns": self._columns(columns)})

    def _columns(self, columns: "Tensor") -> np.ndarray:
        if isinstance(columns, torch.Tensor) and columns.ndim == 1:
            columns = columns.expand(self.heads, -1)
        return self._numbers(columns, self.end, "columns", 2)

    def _numbers(self, given: "Tensor", limit: int, name: str, dimensions: int) -> np.ndarray:
        form = f"[{self.heads}, m] or [m]" if dimensions == 2 else "[r]"
        if not isinstance(given, torch.Tensor) or given.is_floating_point() or given.ndim != dimensions:
            raise CandidateError(FailureKind.INTERFACE, f"{name} have to be whole numbers {form}.")
        if dimensions == 2 and given.shape[0] != self.heads:
            raise CandidateError(FailureKind.INTERFACE, f"{name} have to be whole numbers {form}.")
        given = given.long()
        if given.numel() and (int(given.min()) < 0 or int(given.max()) >= limit):
            raise CandidateError(
                FailureKind.INTERFACE, f"{name} have to lie in 0 .. {limit - 1}; they went beyond it."
            )
        return given.int().contiguous().numpy()

    def _read(self, question: str, asked: "Arrays") -> "Tensor":
        answer = self._ask(question, asked)
        self.spent = float(answer["spent"])
        return torch.from_numpy(answer["scores"].copy())
