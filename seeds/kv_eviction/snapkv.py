"""SnapKV: the queries at the end of the prompt know what is going to be needed.

Li et al., "SnapKV: LLM Knows What You are Looking for Before Generation", arXiv:2404.14469: mean attention of
the last 64 queries to the tokens before them, averaged over the heads of a group and pooled over five
neighbours; the window itself stays. The paper pools by maximum, its later code by mean, as here.
"""

import torch

WINDOW = 64
POOL = 5


class Policy:
    def score(self, layer):
        weights = layer.attention[:, -WINDOW:].mean(1)
        weights = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        recent = layer.positions >= layer.length - WINDOW
        pooled = torch.avg_pool1d(weights.masked_fill(recent, 0), POOL, 1, POOL // 2)
        return pooled.masked_fill(recent, torch.inf)
