"""Strata: the residual is cut by the index's ranking, and the wider a stratum's spread, the more is sampled.

Neyman, "On the two different aspects of the representative method", Journal of the Royal Statistical Society
97 (1934), with the ratio rule for the size: see ratio.py. The ranking is that of HashAttention
(arXiv:2412.14468); its best tokens, sinks and window are read for certain, as in Desai et al., "vAttention:
Verified Sparse Attention", arXiv:2510.05688. Every stratum has a pilot sample of its own.
"""

import math

import torch

BITS = 32
SINKS = 16
WINDOW = 32
TOP = 0.02  # share of the tokens that is read for certain
STRATA = 6  # of what follows
PILOT = 0.04  # share of each stratum
LEAST = 16  # samples of a stratum, and of its pilot
MARGIN = 3.0  # standard errors of a spread that are added to it
HALVINGS = 20


def hashed(keys, key_map, key_shift):
    """Signs of keys [G, n, D] as one int32 each [G, n, 1]."""
    bits = (keys @ key_map.float() + key_shift.float() > 0).long()
    return (bits << torch.arange(BITS)).sum(-1, keepdim=True).to(torch.int32)


def agreement(queries, signs, query_map, query_shift):
    """Bits in which keys agree with queries [G, group, D], over a group, less the others [G, N]."""
    of_keys = 2.0 * ((signs >> torch.arange(BITS)) & 1) - 1  # [G, N, BITS]
    of_query = (queries @ query_map.float() + query_shift.float()).sign()
    return (of_query @ of_keys.transpose(1, 2)).sum(1)


def shuffled(order, ends, generator):
    """A ranking [N] with each stratum in random order."""
    parts = [order[: ends[0]]]
    for part in range(STRATA):
        inside = order[ends[part] : ends[part + 1]]
        parts.append(inside[torch.randperm(len(inside), generator=generator)])
    return torch.cat(parts)


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


def edges(first, length):
    """Where strata begin and end in the ranking: each is larger than the one before."""
    ends = [first * (length / first) ** (part / STRATA) for part in range(STRATA + 1)]
    return [round(end) for end in ends]


def allotted(sizes, spreads, allowed):
    """Samples of each stratum [G, S], in proportion to size and spread, so that the squared error of no head
    is above what is allowed (Neyman, Journal of the Royal Statistical Society 97, 1934).

    sizes [S], spreads [G, group, S], allowed [G, group], of the standard error.
    """
    need = (spreads / allowed[..., None]).amax(1) * sizes  # by the head that needs the most
    low = torch.zeros(need.shape[0], 1)
    high = (sizes / need.clamp(min=1e-9)).amax(1, keepdim=True)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        counts = torch.minimum((middle * need).ceil().clamp(min=LEAST), sizes)
        over = sizes / counts.clamp(min=1) - 1
        errors = (sizes * spreads**2 * over[:, None]).sum(2)  # [G, group]
        enough = (errors <= allowed**2).all(1, keepdim=True)
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return torch.minimum((high * need).ceil().clamp(min=LEAST), sizes)


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
        ends = edges(heavy, cache.length)
        sizes = torch.tensor(ends).diff().float()
        pilots = torch.minimum((PILOT * sizes).ceil().clamp(min=LEAST), sizes)
        mixed = torch.stack([shuffled(row, ends, generator) for row in order])  # each stratum in random order
        starts = torch.tensor(ends[:-1])
        place = torch.arange(cache.length - heavy) + heavy
        stratum = torch.bucketize(place, starts, right=True) - 1  # of each place behind the heavy set
        rank = place - starts[stratum]  # in its stratum
        first = rank < pilots[stratum]
        read = torch.cat([mixed[:, :heavy], mixed[:, heavy:][:, first]], 1)
        scores = cache.scores(query, read).view(cache.kv_heads, group, -1)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        values = cache.values(read)
        of_pilot = stratum[first]
        scale = torch.cat([torch.ones(heavy), (sizes / pilots)[of_pilot]])
        numerator, denominator = (weights * scale) @ values, (weights * scale).sum(-1)
        if goal.quantity == "denominator":
            moved, allowed = weights[..., heavy:, None], denominator
        else:
            output = numerator / denominator[..., None]
            middle = output[:, :, None] if goal.quantity == "output" else 0.0
            moved = weights[..., heavy:, None] * (values[:, None, heavy:] - middle)
            allowed = numerator.norm(dim=-1)
        allowed = goal.epsilon * allowed / quantile(1 - goal.delta / 2)  # [G, group], of the standard error
        spreads = torch.stack([moved[:, :, of_pilot == s].var(2).sum(-1).sqrt() for s in range(STRATA)], -1)
        spreads = spreads * (1 + MARGIN / (2 * (pilots - 1)).sqrt())
        counts = allotted(sizes - pilots, spreads, allowed)  # [G, S]
        chosen = rank < (pilots + counts)[:, stratum]
        chances = (counts / (sizes - pilots).clamp(min=1))[:, stratum]
        indices = torch.cat([mixed[:, :heavy], torch.where(chosen, mixed[:, heavy:], -1)], 1)
        probability = torch.cat([torch.ones(cache.kv_heads, heavy), torch.where(first, 1.0, chances)], 1)
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
