"""AdaKV: heads of a layer share its bytes by how many of the layer's best tokens they have.

Feng et al., "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
arXiv:2407.11550: the scores of a layer's heads are pooled, and a head gets as many tokens as it has among the
best; a fifth of an equal share is safe. Scores are those of SnapKV (arXiv:2404.14469).
"""

import torch

WINDOW = 64
POOL = 5
SAFE = 0.2


class Policy:
    def score(self, layer):
        weights = layer.attention[:, -WINDOW:].mean(1)
        weights = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        recent = layer.positions >= layer.length - WINDOW
        pooled = torch.avg_pool1d(weights.masked_fill(recent, 0), POOL, 1, POOL // 2)
        return pooled.masked_fill(recent, torch.inf)

    def allocate(self, scores, budget):
        shares = []
        for layer in scores:
            kept = max(len(layer), int(budget * layer.numel()))
            best = layer.flatten().topk(kept).indices // layer.shape[1]
            counts = torch.bincount(best, minlength=len(layer)).float() / kept
            shares.append(SAFE / len(layer) + (1 - SAFE) * counts)
        return torch.stack(shares)
