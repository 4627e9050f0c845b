"""GEAR: keys and values of four bits, a low-rank repair of their error, and outliers kept exactly.

Kang et al., "GEAR: An Efficient KV Cache Compression Recipe for Near-Lossless Generative Inference of LLM",
arXiv:2403.05527: 2% of the numbers stay exact, the error of the others is repaired with rank 4 for each head.
There all tokens stay. A quarter of the bytes does not hold them in four bits, so that those with the least
attention of the newest queries leave here, as GEAR itself chooses none; nor is there its buffer of new tokens
without quantisation.
"""

import torch

BITS = 4
RANK = 4
OUTLIERS = 0.02
SINKS = 4
RECENT = 20  # tokens, the length of the paper's buffer


class Policy:
    def score(self, layer):
        weights = layer.attention.mean(1)
        scores = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        fixed = (layer.positions < SINKS) | (layer.positions >= layer.length - RECENT)
        return scores.masked_fill(fixed, torch.inf)

    def format(self, layer, budget):
        return {"tiers": [(1.0, BITS, BITS)], "rank": RANK, "outliers": OUTLIERS}
