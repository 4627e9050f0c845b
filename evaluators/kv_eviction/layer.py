"""What a policy is shown of one layer: its cache, its newest queries, and what was attended to."""

import torch

__all__ = ["Layer"]  # what an exported policy carries along

BLOCK = 64  # queries that are observed at a time, and that a policy is shown


class Layer:
    """One layer of a context. All tensors belong to the policy: nothing that it does to them counts."""

    def __init__(
        self,
        *,
        keys: torch.Tensor,  # [G, n, D] float32, after RoPE
        values: torch.Tensor,  # [G, n, D]
        positions: torch.Tensor,  # [G, n] int64; -1 at the end where a head has fewer tokens than another
        queries: torch.Tensor,  # [H, W, D], of the tokens length - W .. length - 1
        query_mean: torch.Tensor,  # [H, D], of the context's queries, as at the next positions
        query_covariance: torch.Tensor,  # [H, D, D]
        index: int,
        layers: int,
        length: int,  # tokens so far
        learnt: dict[str, torch.Tensor] | None = None,  # of each KV head [G]
        state: torch.Tensor | None = None,  # [G, n, S]
        counts: torch.Tensor | None = None,  # [G, n], how many tokens each stands for
    ) -> None:
        self.keys, self.values, self.positions, self.queries = keys, values, positions, queries
        self.query_mean, self.query_covariance = query_mean, query_covariance
        self.index, self.layers, self.length = index, layers, length
        self.kv_heads, _, self.head_size = keys.shape
        self.heads = len(queries)
        self.learnt, self.state = learnt or {}, state
        self.counts = torch.ones(positions.shape) if counts is None else counts
        self.received: torch.Tensor | None = None  # [G, n], of the block that is observed
        self.frequent: torch.Tensor | None = None
        self.future: torch.Tensor | None = None  # [G, branches, n]: what bounds know
        self.known: torch.Tensor | None = None  # attention, once it was asked for

    @property
    def attention(self) -> torch.Tensor:
        """Attention [H, W, n] of the newest queries: softmax of `q.k / sqrt(D)` over what each sees."""
        if self.known is None:
            heads, width, size = self.queries.shape
            grouped = self.queries.reshape(self.kv_heads, -1, size)
            scores = (grouped @ self.keys.transpose(1, 2) / size**0.5).view(heads, width, -1)
            at = torch.arange(self.length - width, self.length)
            places = self.positions[:, None]
            seen = (places >= 0) & (places <= at[:, None])  # [G, W, n]
            unseen = ~seen.repeat_interleave(heads // self.kv_heads, 0)
            weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)
            self.known = weights.nan_to_num(0.0)  # a query that sees nothing of what is left
        return self.known
