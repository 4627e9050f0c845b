"""HashEvict: the tokens whose hashes differ least from that of the query, by Hamming distance.

Liu et al., "HashEvict: A Pre-Attention KV Cache Eviction Strategy using Locality-Sensitive Hashing",
arXiv:2412.16187: keys and queries are binarised by 16 Gaussian projections before attention; the cached token
of the greatest distance makes place for the new one. Here nothing is overwritten: the same distances choose
what a step reads.
"""

import torch

BITS = 16
SINKS = 4
WINDOW = 16


def planes(size):
    """Random projections [D, BITS], the same at every call: a constant of the program, not of the cache."""
    return torch.randn(size, BITS, generator=torch.Generator().manual_seed(1))


def hashes(vectors):
    """Signs of the projections as one int16 per vector [..., 1]."""
    bits = (vectors @ planes(vectors.shape[-1]) > 0).long()
    return (bits << torch.arange(BITS)).sum(-1, keepdim=True).to(torch.int16)


class Policy:
    def prefill(self, keys):
        self.codes = Index(hashes(keys))  # [G, N, 1]

    def append(self, keys):
        self.codes.append(hashes(keys))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        of_keys = self.codes.read()[..., 0][:, None]  # [G, 1, N]
        of_query = hashes(query).view(cache.kv_heads, group, 1)
        different = ((of_keys ^ of_query)[..., None].long() >> torch.arange(BITS)) & 1  # [G, group, N, BITS]
        ranking = -different.sum(-1).sum(1).float()  # [G, N]
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
