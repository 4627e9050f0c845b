"""SimHash signatures with a sampled residual.

Index: Charikar, STOC 2002.  Sampling: Desai et al., "vAttention: Verified Sparse Attention",
arXiv:2510.05688: what the index ranks first is read for certain, a uniform sample of the rest carries the
weight of the inverse inclusion probability. Here with a fixed share.
"""

import torch

BITS = 32
SINKS = 4
WINDOW = 16
SAMPLED = 0.5  # share of the tokens


def planes(size):
    """Random hyperplanes [D, BITS], the same at every call: a constant of the program, not of the cache."""
    return torch.randn(size, BITS, generator=torch.Generator().manual_seed(1))


def signatures(vectors):
    """Signs [..., BITS] as one int32 per vector, so that a token costs four bytes."""
    bits = (vectors @ planes(vectors.shape[-1]) > 0).long()
    return (bits << torch.arange(BITS)).sum(-1).to(torch.int32)


def mixed(ranking, kept, generator):
    """The heaviest tokens for certain and a uniform sample of the rest: tokens and probabilities, [G, kept]
    each.
    """
    sampled = int(kept * SAMPLED)
    order = ranking.argsort(descending=True, stable=True)  # [G, N]
    rest = order[:, kept - sampled :]
    places = torch.randperm(rest.shape[1], generator=generator)[:sampled]
    tokens = torch.cat([order[:, : kept - sampled], rest[:, places]], 1)
    probability = torch.ones(tokens.shape)
    probability[:, kept - sampled :] = sampled / rest.shape[1]
    return tokens, probability


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
        tokens, probability = mixed(ranking, cache.affordable(budget), generator)
        return tokens.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
