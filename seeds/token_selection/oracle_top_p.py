"""Oracle top-p: per KV head the fewest tokens that reach a share p of the attention weight. A bound, never a
candidate.

Lin et al., "Twilight: Adaptive Attention Sparsity with Hierarchical Top-p Pruning", arXiv:2502.02770. Here p
is the largest share whose tokens fit the budget of the layer: flat heads get more tokens than peaked ones.
"""

import torch

HALVINGS = 20


class Policy:
    def select(self, query, cache, budget, generator):
        total = cache.affordable(budget) * cache.kv_heads
        tokens = torch.arange(cache.length).expand(cache.kv_heads, -1)
        weights = cache.scores(query, tokens).softmax(-1)  # [H, N]
        shared = weights.view(cache.kv_heads, -1, cache.length).mean(1)
        order = shared.argsort(descending=True)
        mass = shared.gather(1, order).cumsum(1)  # [G, N], reached after each token
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            share = (low + high) / 2
            if int((mass < share).sum()) + cache.kv_heads <= total:  # one more token reaches the share
                low = share
            else:
                high = share
        counts = (mass < low).sum(1, keepdim=True) + 1
        if total >= cache.length * cache.kv_heads:
            counts = torch.full_like(counts, cache.length)
        counts = counts.clamp(max=cache.length)
        rank = torch.arange(int(counts.max()))
        indices = torch.where(rank < counts, order[:, : len(rank)], -1)
        indices = indices.repeat_interleave(cache.heads // cache.kv_heads, 0)
        return indices, torch.ones(indices.shape)
