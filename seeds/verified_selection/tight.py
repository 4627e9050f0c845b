"""The lemma of vAttention with a tight constant, and for a finite population.

A quotient is off by at most (epsilon_1 + epsilon_2) / (1 - epsilon_2) where its parts are within these; so
both may be epsilon / (2 + epsilon), about twice what 2 (epsilon_1 + epsilon_2) allows, which takes a quarter
of the samples. Without replacement, b of n tokens are as good as b n / (n - b) with it. Otherwise as in Desai
et al., "vAttention: Verified Sparse Attention", arXiv:2510.05688, with half of delta for each part.
"""

import math

import torch

BITS = 32
SINKS = 16
WINDOW = 32
TOP = 0.05  # share of the tokens that the index finds
PILOT = 0.05  # share of the residual
LEAST = 16  # samples


def hashed(keys, key_map, key_shift):
    """Signs of keys [G, n, D] as one int32 each [G, n, 1]."""
    bits = (keys @ key_map.float() + key_shift.float() > 0).long()
    return (bits << torch.arange(BITS)).sum(-1, keepdim=True).to(torch.int32)


def agreement(queries, signs, query_map, query_shift):
    """Bits in which keys agree with queries [G, group, D], over a group, less the others [G, N]."""
    of_keys = 2.0 * ((signs >> torch.arange(BITS)) & 1) - 1  # [G, N, BITS]
    of_query = (queries @ query_map.float() + query_shift.float()).sign()
    return (of_query @ of_keys.transpose(1, 2)).sum(1)


def quantile(probability):
    """Of the standard normal distribution, by bisection."""
    low, high = -9.0, 9.0
    for _ in range(50):
        middle = (low + high) / 2
        if math.erf(middle / 2**0.5) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return low


def with_pilot(order, heavy, generator):
    """The residual of each KV head [G, n] in random order, and how much of it the pilot sample is."""
    n = order.shape[1] - heavy
    rest = torch.stack([row[heavy:][torch.randperm(n, generator=generator)] for row in order])
    return rest, max(2, int(PILOT * n))


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

    def select(self, query, cache, goal, generator):
        group = cache.heads // cache.kv_heads
        queries = query.view(cache.kv_heads, group, -1)
        ranking = agreement(queries, self.signs.read(), self.query_map.read(), self.query_shift)
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        order = ranking.argsort(descending=True, stable=True)
        heavy = SINKS + WINDOW + int(TOP * cache.length)
        rest, pilot = with_pilot(order, heavy, generator)
        n = rest.shape[1]
        left = n - pilot  # what the sample is drawn from: the pilot's tokens are read for certain now
        read = torch.cat([order[:, :heavy], rest[:, :pilot]], 1)
        scores = cache.scores(query, read).view(cache.kv_heads, group, -1)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()  # [G, group, heavy + pilot]
        values = cache.values(read)  # [G, heavy + pilot, D]
        scaled = torch.cat([weights[..., :heavy], weights[..., heavy:] * (n / pilot)], -1)
        numerator, denominator = scaled @ values, scaled.sum(-1)  # [G, group, D] and [G, group], estimated
        sampled, tail = weights[..., heavy:], values[:, None, heavy:]
        first = (sampled[..., None] * tail).var(2).sum(-1).sqrt() / numerator.norm(dim=-1)
        second = sampled.std(-1) / denominator
        epsilon, delta = goal.epsilon, goal.delta
        if goal.quantity == "denominator":
            spread = second
        elif goal.quantity == "numerator":
            spread = first
        else:
            spread = torch.maximum(first, second)
            epsilon, delta = epsilon / (2 + epsilon), delta / 2
        needed = (quantile(1 - delta / 2) * left * spread / epsilon).amax(1) ** 2
        counts = (needed * left / (needed + left)).ceil().clamp(LEAST, left).long()
        most = int(counts.max())
        drawn = torch.where(torch.arange(most) < counts[:, None], rest[:, pilot : pilot + most], -1)
        chances = (counts / left)[:, None].expand(-1, most)
        indices = torch.cat([read, drawn], 1)
        probability = torch.cat([torch.ones(read.shape), chances], 1)
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
