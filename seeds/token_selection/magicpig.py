"""MagicPIG: tokens are drawn with the probability that their hashes collide with the query's, and weighted.

Chen et al., "MagicPIG: LSH Sampling for Efficient LLM Generation", arXiv:2410.16179: L tables of K signs of
random projections of centred keys; a token is read if at least two tables collide. A fixed index draws the
same tokens every time, so here the signs of all tables estimate the angle, the angle gives the probability
of two collisions, and tokens are drawn in proportion to it, as many as the budget carries.
"""

import torch

K = 8  # signs of a table
L = 4  # tables; K * L fill one int32 per token
SINKS = 4
WINDOW = 16
LEAST = 1e-3  # probability of a collision that even the farthest token has
HALVINGS = 40


def planes(size):
    """Random projections [D, K * L], the same at every call: a constant of the program, not of the cache."""
    return torch.randn(size, K * L, generator=torch.Generator().manual_seed(1))


def signatures(vectors):
    """Signs of the projections as one int32 per vector [..., 1]."""
    bits = (vectors @ planes(vectors.shape[-1]) > 0).long()
    return (bits << torch.arange(K * L)).sum(-1, keepdim=True).to(torch.int32)


def collision(alike):
    """Probability that at least two tables collide, from the share of signs that are alike (section 4.2)."""
    one = alike**K
    return 1 - (1 - one) ** L - L * one * (1 - one) ** (L - 1)


def inclusion(weight, count):
    """Probabilities min(1, c weight) [N] that sum to `count`."""
    low, high = 0.0, float(count / weight.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float((weight * middle).clamp(max=1).sum()) < count:
            low = middle
        else:
            high = middle
    return (weight * low).clamp(max=1)


def drawn(probability, generator):
    """Tokens drawn with these probabilities [N]: a random start on a line on which each takes its part."""
    order = torch.randperm(len(probability), generator=generator)
    end = probability[order].double().cumsum(0) + torch.rand(1, generator=generator).double()
    before = torch.cat([end[:1] - probability[order[:1]].double(), end[:-1]])
    return order[end.floor() > before.floor()]


class Policy:
    def prefill(self, keys):
        self.centre = keys.mean(1, keepdim=True).half()  # [G, 1, D]
        self.signs = Index(signatures(keys - self.centre))  # [G, N, 1]

    def append(self, keys):
        self.signs.append(signatures(keys - self.centre))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        of_keys = (self.signs.read() >> torch.arange(K * L)) & 1  # [G, N, K * L]
        of_query = (query @ planes(cache.head_size) > 0).view(cache.kv_heads, group, K * L)
        agreement = (2.0 * of_query - 1) @ (2.0 * of_keys - 1).transpose(1, 2)  # [G, group, N]
        weight = collision((agreement / (K * L) + 1) / 2).clamp(min=LEAST).mean(1)  # [G, N]
        kept = cache.affordable(budget)
        fixed = min(SINKS + WINDOW, kept // 2)
        certain = torch.cat(
            [torch.arange(min(SINKS, fixed)), torch.arange(cache.length - fixed + SINKS, cache.length)]
        )
        others = torch.arange(min(SINKS, fixed), cache.length - max(0, fixed - SINKS))
        indices = torch.full((cache.kv_heads, kept + 1), -1)
        probability = torch.ones(cache.kv_heads, kept + 1)
        for head in range(cache.kv_heads):
            chances = inclusion(weight[head, others], kept - len(certain))
            places = drawn(chances, generator)[: kept - len(certain)]
            count = len(certain) + len(places)
            indices[head, :count] = torch.cat([certain, others[places]])
            probability[head, len(certain) : count] = chances[places]
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
