"""vAttention as its public code has it, which samples less than its guarantee needs.

Desai et al., "vAttention: Verified Sparse Attention", arXiv:2510.05688, as in sparse-attention-hub: one-sided
quantile, so that delta is missed twice as often; the denominator alone is guarded, whatever is asked for; the
pilot and the sample come from all tokens between sinks and window, the best ones of the index among them,
which the estimated denominator counts twice; draws are with replacement, and what is drawn twice counts once.
There b / n is taken for the probability of a token in b draws; here it is the true one, 1 - (1 - 1/n)^b.
"""

import math

import torch

BITS = 32
SINKS = 16
WINDOW = 32
TOP = 0.05  # share of the tokens that the index finds
PILOT = 0.02  # share of the tokens between sinks and window


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
        heavy = order[:, : SINKS + WINDOW + int(TOP * cache.length)]
        n = cache.length - SINKS - WINDOW
        pilot = max(2, int(PILOT * n))
        drawn = torch.randint(SINKS, SINKS + n, (cache.kv_heads, pilot), generator=generator)
        scores = cache.scores(query, torch.cat([heavy, drawn], 1)).view(cache.kv_heads, group, -1)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        sampled = weights[..., heavy.shape[1] :]
        denominator = weights[..., : heavy.shape[1]].sum(-1) + n * sampled.mean(-1)
        needed = (quantile(1 - goal.delta) * n * sampled.std(-1) / (goal.epsilon * denominator)) ** 2
        counts = needed.amax(1).ceil().clamp(pilot, n).long()
        indices = torch.full((cache.kv_heads, cache.length), -1)
        probability = torch.ones(cache.kv_heads, cache.length)
        for head in range(cache.kv_heads):
            count = int(counts[head])
            if count >= n:
                indices[head] = torch.arange(cache.length)
                continue
            places = torch.randint(SINKS, SINKS + n, (count,), generator=generator)
            fresh = torch.ones(cache.length).scatter(0, places, 0.0) == 0
            fresh[heavy[head]] = False
            tokens = torch.cat([heavy[head], fresh.nonzero()[:, 0]])
            indices[head, : len(tokens)] = tokens
            probability[head, heavy.shape[1] : len(tokens)] = 1 - (1 - 1 / n) ** count
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
