"""PyramidKV: SnapKV, with more tokens in early layers, where attention is wide, than in late ones.

Cai et al., "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
arXiv:2406.02069: budgets fall linearly with depth, from nearly twice the mean to a twentieth of it (beta 20).
"""

import torch

WINDOW = 64
POOL = 5
BETA = 20


class Policy:
    def score(self, layer):
        weights = layer.attention[:, -WINDOW:].mean(1)
        weights = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        recent = layer.positions >= layer.length - WINDOW
        pooled = torch.avg_pool1d(weights.masked_fill(recent, 0), POOL, 1, POOL // 2)
        return pooled.masked_fill(recent, torch.inf)

    def allocate(self, scores, budget):
        last = 1 / BETA
        depths = torch.linspace(2 - last, last, len(scores))
        return depths[:, None].expand(-1, len(scores[0]))
