"""SimHash signatures: rank tokens by how many of 32 random-hyperplane bits agree with the query's.

Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC 2002; used for attention by
HashEvict, arXiv:2412.16187, and with learned bits by HashAttention, arXiv:2412.14468. Keys are centred
before hashing as in MagicPIG, arXiv:2410.16179: attention does not change when a vector is subtracted from
all keys.
"""

import torch

BITS = 32
SINKS = 4
WINDOW = 16


def planes(size):
    """Random hyperplanes [D, BITS], the same at every call: a constant of the program, not of the cache."""
    return torch.randn(size, BITS, generator=torch.Generator().manual_seed(1))


def signatures(vectors):
    """Signs [..., BITS] as one int32 per vector, so that a token costs four bytes."""
    bits = (vectors @ planes(vectors.shape[-1]) > 0).long()
    return (bits << torch.arange(BITS)).sum(-1).to(torch.int32)


class Policy:
    def prefill(self, keys):
        self.centre = keys.mean(1, keepdim=True).half()  # [G, 1, D]
        self.bits = Index(signatures(keys - self.centre)[..., None])  # [G, N, 1]

    def append(self, keys):
        self.bits.append(signatures(keys - self.centre)[..., None])

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        of_keys = (self.bits.read() >> torch.arange(BITS)) & 1  # [G, N, BITS]
        of_query = (query @ planes(cache.head_size) > 0).view(cache.kv_heads, group, BITS)
        agreement = (2.0 * of_query - 1) @ (2.0 * of_keys - 1).transpose(1, 2)  # [G, group, N]
        ranking = agreement.sum(1)
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
