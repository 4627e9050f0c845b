"""Sample sizes by the empirical Bernstein bound, which holds for samples of any size.

Audibert, Munos and Szepesvari, "Exploration-exploitation tradeoff using variance estimates in multi-armed
bandits", Theoretical Computer Science 410 (2009): the mean of b draws of range R and empirical variance V is
off by at most sqrt(2 V x / b) + 3 R x / b with probability 1 - 3 exp(-x). Here of w (v - output), with the
trace of its covariance for V and its largest norm in the pilot sample for R, so that nothing is proved where
the pilot has missed what is larger. Heavy set and sampling as in vAttention, arXiv:2510.05688.
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
        scale = denominator if goal.quantity == "denominator" else numerator.norm(dim=-1)
        if goal.quantity == "denominator":
            moved = sampled[..., None]
        elif goal.quantity == "numerator":
            moved = sampled[..., None] * tail
        else:
            moved = sampled[..., None] * (tail - (numerator / denominator[..., None])[:, :, None])
        x = math.log(3 / goal.delta)
        allowed = goal.epsilon * scale / left  # of the error of the mean
        slope = (2 * moved.var(2).sum(-1) * x).sqrt()
        curve = 3 * moved.norm(dim=-1).amax(-1) * x
        root = (slope + (slope**2 + 4 * curve * allowed).sqrt()) / (2 * allowed)  # of the size
        counts = (root**2).amax(1).ceil().clamp(LEAST, left).long()
        most = int(counts.max())
        drawn = torch.where(torch.arange(most) < counts[:, None], rest[:, pilot : pilot + most], -1)
        chances = (counts / left)[:, None].expand(-1, most)
        indices = torch.cat([read, drawn], 1)
        probability = torch.cat([torch.ones(read.shape), chances], 1)
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
