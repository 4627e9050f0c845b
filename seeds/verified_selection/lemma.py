"""vAttention: the sample is as large as the paper's lemma demands for numerator and denominator.

Desai et al., "vAttention: Verified Sparse Attention", arXiv:2510.05688. If the numerator is within epsilon_1
with probability 1 - delta_1 and the denominator within epsilon_2 with 1 - delta_2, the output is within
2 (epsilon_1 + epsilon_2) with 1 - delta_1 - delta_2; of all ways to share, the one with the smallest sample
is taken. A pilot sample estimates spreads and sums, the quantile is the normal one of both sides, and the
size is cut off at what there is. The heavy set is that of sinks, window, and the best tokens of HashAttention
(arXiv:2412.14468). Here the sample is drawn without replacement, and the pilot's tokens are read for certain.
"""

import math

import torch

BITS = 32
SINKS = 16
WINDOW = 32
TOP = 0.05  # share of the tokens that the index finds
PILOT = 0.05  # share of the residual
LEAST = 16  # samples
SHARES = 15  # ways to share epsilon, and delta


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


def lemma(n, spread, scale, epsilon, delta):
    """Samples for a sum over n tokens: (z n spread / (epsilon scale))^2."""
    return (quantile(1 - delta / 2) * n * spread / (epsilon * scale)) ** 2


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
        first = (sampled[..., None] * tail).var(2).sum(-1).sqrt(), numerator.norm(dim=-1)
        second = sampled.std(-1), denominator
        if goal.quantity == "denominator":
            needed = lemma(left, *second, goal.epsilon, goal.delta)
        elif goal.quantity == "numerator":
            needed = lemma(left, *first, goal.epsilon, goal.delta)
        else:
            parts = [(part + 1) / (SHARES + 1) for part in range(SHARES)]
            half = goal.epsilon / 2
            one = torch.stack([lemma(left, *first, half, goal.delta * part) for part in parts])
            other = torch.stack([lemma(left, *second, half, goal.delta * (1 - part)) for part in parts])
            # sizes go with the inverse square of epsilon's share
            ways = [torch.maximum(one / part**2, other / (1 - part) ** 2) for part in parts]
            needed = torch.cat(ways).amin(0)
        counts = needed.amax(1).ceil().clamp(LEAST, left).long()  # the head that needs the most
        most = int(counts.max())
        drawn = torch.where(torch.arange(most) < counts[:, None], rest[:, pilot : pilot + most], -1)
        chances = (counts / left)[:, None].expand(-1, most)
        indices = torch.cat([read, drawn], 1)
        probability = torch.cat([torch.ones(read.shape), chances], 1)
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
