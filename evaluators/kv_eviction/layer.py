"""What a policy is shown of one layer: its cache, its newest queries, and what was attended to."""

from functools import cached_property
from typing import NamedTuple

import torch

__all__ = ["BLOCK", "Facts", "Layer"]

BLOCK = 64  # queries that are observed at a time, and that a policy is shown


class Facts(NamedTuple):
    """Figures of a layer that do not depend on which tokens are cached."""

    index: int
    layers: int
    length: int  # tokens so far


class Layer:
    """One layer of a context. All tensors belong to the policy: nothing that it does to them counts."""

    def __init__(
        self,
        keys: torch.Tensor,  # [G, n, D] float32
        values: torch.Tensor,  # [G, n, D]
        positions: torch.Tensor,  # [G, n] int64
        queries: torch.Tensor,  # [H, W, D], of the tokens length - W .. length - 1
        query_mean: torch.Tensor,  # [H, D]
        query_covariance: torch.Tensor,  # [H, D, D]
        facts: Facts,
        learnt: dict[str, torch.Tensor],  # of each KV head [G]
    ) -> None:
        self.keys, self.values, self.positions, self.queries = keys, values, positions, queries
        self.query_mean, self.query_covariance, self.learnt = query_mean, query_covariance, learnt
        self.index, self.layers, self.length = facts
        self.kv_heads, _, self.head_size = keys.shape
        self.heads = len(queries)
        self.state: torch.Tensor | None = None  # [G, n, S]
        self.received: torch.Tensor | None = None  # [G, n], of the block that is observed
        self.frequent: torch.Tensor | None = None

    @cached_property
    def attention(self) -> torch.Tensor:
        """Attention [H, W, n] of the newest queries: softmax of `q.k / sqrt(D)` over what each sees."""
        heads, width, size = self.queries.shape
        grouped = self.queries.reshape(self.kv_heads, -1, size)
        scores = (grouped @ self.keys.transpose(1, 2) / size**0.5).view(heads, width, -1)
        at = torch.arange(self.length - width, self.length)
        places = self.positions[:, None]
        seen = (places >= 0) & (places <= at[:, None])  # [G, W, n]
        unseen = ~seen.repeat_interleave(heads // self.kv_heads, 0)
        return scores.masked_fill(unseen, -torch.inf).softmax(-1)
