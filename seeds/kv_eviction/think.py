"""ThinK: key channels that the newest queries do not use are dropped, and fewer tokens with them.

Xu et al., "ThinK: Thinner Key Cache by Query-Driven Pruning", arXiv:2407.21018: a channel matters as the norm
of the last 32 queries in it times the norm of the keys in it; 40% of the channels leave. As in the paper's
main tables, tokens are chosen by SnapKV (arXiv:2404.14469). There the newest keys keep all channels; here
none does.
"""

import torch

WINDOW = 32
POOL = 5
KEPT_CHANNELS = 0.6


class Policy:
    def score(self, layer):
        weights = layer.attention[:, -WINDOW:].mean(1)
        weights = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        recent = layer.positions >= layer.length - WINDOW
        pooled = torch.avg_pool1d(weights.masked_fill(recent, 0), POOL, 1, POOL // 2)
        return pooled.masked_fill(recent, torch.inf)

    def format(self, layer, budget):
        return {"key_channels": KEPT_CHANNELS}

    def channels(self, layer):
        queries = layer.queries[:, -WINDOW:].reshape(layer.kv_heads, -1, layer.head_size)
        return queries.norm(dim=1) * layer.keys.norm(dim=1)
