"""Oracle top-k: the tokens with the largest attention weight, known for free. A bound, never a candidate.

The selection that Quest (arXiv:2406.10774), HashAttention (arXiv:2412.14468) and others approximate. The
query heads of a KV head share one list, because a kernel loads a token once for all of them.
"""

import torch


class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)
        tokens = torch.arange(cache.length).expand(cache.kv_heads, -1)
        weights = cache.scores(query, tokens).softmax(-1)  # [H, N]
        shared = weights.view(cache.kv_heads, -1, cache.length).sum(1)
        indices = shared.topk(kept).indices.repeat_interleave(cache.heads // cache.kv_heads, 0)
        return indices, torch.ones(indices.shape)
