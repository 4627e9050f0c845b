"""HashAttention: learned maps send queries and keys to 32 signs; keys with the most equal signs are read.

Desai et al., "HashAttention: Semantic Sparsity for Faster Inference", arXiv:2412.14468. The maps are trained
on the search texts to tell each query's heaviest tokens from the others; the published ones have three
layers, these are linear. Where a budget cannot carry signs and maps, sinks and a recent window are read.
"""

import torch

BITS = 32
SINKS = 4
WINDOW = 16
INDEX_SHARE = 0.7  # the most of a budget that signs and maps may take


def hashed(keys, key_map, key_shift):
    """Signs of keys [G, n, D] as one int32 each [G, n, 1]."""
    bits = (keys @ key_map.float() + key_shift.float() > 0).long()
    return (bits << torch.arange(BITS)).sum(-1, keepdim=True).to(torch.int32)


class Policy:
    def calibrate(self, learnt):
        self.query_map = Index(learnt["query_map"])  # int8 [G, D, BITS]
        self.query_shift = learnt["query_shift"]  # fp16 [G, 1, BITS]
        self.key_map = Index(learnt["key_map"])
        self.key_shift = learnt["key_shift"]

    def prefill(self, keys):
        self.signs = Index(hashed(keys, self.key_map.read(), self.key_shift))  # [G, N, 1]

    def append(self, keys):
        self.signs.append(hashed(keys, self.key_map.read(), self.key_shift))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        row = 4 * cache.head_size  # bytes of a token
        if INDEX_SHARE * budget < (4 + 2 * BITS * cache.head_size / cache.length) / row:
            kept = cache.affordable(budget)
            sinks = torch.arange(min(SINKS, kept))
            recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
            tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        of_keys = 2.0 * ((self.signs.read() >> torch.arange(BITS)) & 1) - 1  # [G, N, BITS]
        of_query = query.view(cache.kv_heads, group, -1) @ self.query_map.read().float()
        of_query = (of_query + self.query_shift.float()).sign()
        ranking = (of_query @ of_keys.transpose(1, 2)).sum(1)  # [G, N], shared by the query heads
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
