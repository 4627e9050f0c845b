"""StreamingLLM: keep the first tokens (attention sinks) and a window of recent ones.

Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453.
"""

import torch

SINKS = 4  # section 3.2: four initial tokens are enough


class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)  # tokens per KV head
        sinks = torch.arange(min(SINKS, kept))
        recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
        indices = torch.cat([sinks, recent]).expand(cache.heads, -1)  # [H, kept]
        return indices, torch.ones(indices.shape)  # read for certain
