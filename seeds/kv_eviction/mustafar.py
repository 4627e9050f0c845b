"""Mustafar: the numbers of small magnitude leave each key and value vector, where they stand is a bitmap.

Joo et al., "Mustafar: Promoting Unstructured Sparsity for KV Cache Pruning in LLM Inference",
arXiv:2505.22913: each token's vectors are pruned by magnitude, up to 70% of them, and the newest 32 tokens
stay dense. All tokens stay there, which a quarter of the bytes does not allow: those that the newest queries
attend to least leave here, and the newest ones are kept, but pruned as well.
"""

import torch

DENSITY = 0.3
RECENT = 32


class Policy:
    def score(self, layer):
        weights = layer.attention.mean(1)
        scores = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        return scores.masked_fill(layer.positions >= layer.length - RECENT, torch.inf)

    def format(self, layer, budget):
        return {"key_density": DENSITY, "value_density": DENSITY}
