"""Recent window: the newest tokens and nothing else. The floor of all recency.

Beltagy et al., "Longformer: The Long-Document Transformer", arXiv:2004.05150, sliding-window attention.
"""

import torch


class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)
        indices = torch.arange(cache.length - kept, cache.length).expand(cache.heads, -1)  # [H, kept]
        return indices, torch.ones(indices.shape)
