"""vAttention's core with a perfect index: half of the tokens are the heaviest, half a uniform sample of the
rest.

Desai et al., "vAttention: Verified Sparse Attention", arXiv:2510.05688: sinks, window and top-k are read for
certain, the residual is sampled uniformly and weighted by the inverse inclusion probability. Here with a
fixed size instead of the adaptive one. A bound, never a candidate, because it sees all scores for free.
"""

import torch

SINKS = 4
WINDOW = 16
SAMPLED = 0.5  # share of the tokens


class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)
        tokens = torch.arange(cache.length).expand(cache.kv_heads, -1)
        weights = cache.scores(query, tokens).softmax(-1)  # [H, N]
        ranking = weights.view(cache.kv_heads, -1, cache.length).sum(1)
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        heavy = kept if kept >= cache.length else kept - int(kept * SAMPLED)
        order = ranking.argsort(descending=True)  # [G, N]
        rest = order[:, heavy:]
        places = torch.randperm(rest.shape[1], generator=generator)[: kept - heavy]
        chosen = torch.cat([order[:, :heavy], rest[:, places]], 1)  # [G, kept]
        probability = torch.ones(chosen.shape)
        probability[:, heavy:] = len(places) / max(1, rest.shape[1])
        group = cache.heads // cache.kv_heads
        return chosen.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
