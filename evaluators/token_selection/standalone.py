"""What a token-selection policy needs when it is used alone: a plain KV cache, and the `Index` of its
language.

Nothing is metered here. An exported policy carries a copy of the two classes below.
"""

import math

import torch

__all__ = ["Cache", "Index"]


class Index:
    """Rows [KV heads, R, ...] that a policy keeps between decode steps."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    @property
    def length(self) -> int:
        return self.rows.shape[1]

    def read(self) -> torch.Tensor:
        return self.rows.clone()

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        heads = torch.arange(self.rows.shape[0], device=rows.device)[:, None]
        return self.rows[heads, rows]

    def append(self, rows: torch.Tensor) -> None:
        self.rows = torch.cat([self.rows, rows.to(self.rows.dtype)], dim=1)


class Cache:
    """One layer's keys and values [KV heads, N, D], as a policy's `select` takes them."""

    def __init__(
        self, keys: torch.Tensor, values: torch.Tensor, heads: int, layer: int = 0, layers: int = 1
    ) -> None:
        self.all_keys, self.all_values = keys, values
        self.heads, self.layer, self.layers = heads, layer, layers
        self.kv_heads, self.length, self.head_size = keys.shape
        self.index_rows = 0.0  # what the policy's index reads cost, in tokens per KV head; 0 if it is free
        self.spent = 0.0

    def affordable(self, budget: float) -> int:
        if budget >= 1:
            return self.length
        return max(0, min(self.length, int(budget * self.length - self.index_rows + 1e-6)))

    def keys(self, indices: torch.Tensor) -> torch.Tensor:
        return self.all_keys.gather(1, indices.long()[..., None].expand(-1, -1, self.head_size))

    def values(self, indices: torch.Tensor) -> torch.Tensor:
        return self.all_values.gather(1, indices.long()[..., None].expand(-1, -1, self.head_size))

    def key_channels(self, channels: torch.Tensor) -> torch.Tensor:
        return self.all_keys.gather(2, channels.long()[:, None, :].expand(-1, self.length, -1))

    def scores(self, query: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        grouped = query.view(self.kv_heads, -1, self.head_size)
        scores = grouped @ self.keys(indices).transpose(1, 2)
        return scores.reshape(self.heads, -1) / math.sqrt(self.head_size)
