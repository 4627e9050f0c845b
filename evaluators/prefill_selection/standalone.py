"""What a prefill policy needs when it is used alone: one block of queries, and the keys up to its end.

Nothing is metered here. An exported policy carries a copy of the class below: make one of the end of the
prompt for `observe`, and one of each block for `select`.
"""

import math

import torch

__all__ = ["Block"]


class Block:
    """Queries [H, M, D] of the tokens begin .. begin + M - 1 of a prompt with keys [G, N, D]."""

    def __init__(
        self, queries: torch.Tensor, keys: torch.Tensor, begin: int, layer: int = 0, layers: int = 1
    ) -> None:
        self.queries, self.begin, self.layer, self.layers = queries, begin, layer, layers
        self.heads, self.rows, self.head_size = queries.shape
        self.end, self.prompt = begin + self.rows, keys.shape[1]
        self.kv_heads = keys.shape[0]
        self.keys = keys[:, : self.end].repeat_interleave(self.heads // self.kv_heads, 0)  # [H, end, D]
        self.base = 2 * self.rows / (self.prompt + self.rows)  # of all blocks: what is always computed
        self.spent = self.base

    def affordable(self, budget: float) -> int:
        if budget >= 1:
            return self.end
        return max(0, min(self.begin, int((budget - self.spent) / (1 - self.base) * self.begin + 1e-6)))

    def scores(self, rows: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        if columns is None:
            columns = torch.arange(self.end, device=self.keys.device)
        columns = columns.long().expand(self.heads, -1)
        keys = self.keys.gather(1, columns[..., None].expand(-1, -1, self.head_size))
        found = self.queries[:, rows.long()] @ keys.transpose(1, 2) / math.sqrt(self.head_size)
        return found.masked_fill(columns[:, None] > self.begin + rows[:, None], -math.inf)

    def mean_scores(self, size: int = 1) -> torch.Tensor:
        starts = range(0, self.end, size)
        means = torch.stack([self.keys[:, start : start + size].mean(1) for start in starts], 1)
        return (self.queries.mean(1, keepdim=True) @ means.transpose(1, 2))[:, 0] / math.sqrt(self.head_size)

    def compute(self, columns: torch.Tensor) -> torch.Tensor:
        return self.scores(torch.arange(self.rows, device=self.keys.device), columns)
