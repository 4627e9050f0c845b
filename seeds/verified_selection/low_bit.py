"""Strata by a copy of the keys in two bits a channel, which ranks tokens as SpeCache and SALE do.

Jie et al., "SpeCache: Speculative Key-Value Caching for Efficient Generation of LLMs", arXiv:2503.16163, and
SALE, arXiv:2505.24179: low-bit keys estimate all scores. Here the estimates cut the tokens into strata, the
first of which is read for certain; the others are sampled as their spread demands (see stratified.py).
"""

import math

import torch

BITS = 2  # a channel
SINKS = 16
WINDOW = 32
TOP = 0.02  # share of the tokens that is read for certain
STRATA = 6  # of what follows
PILOT = 0.04  # share of each stratum
LEAST = 16  # samples of a stratum, and of its pilot
MARGIN = 3.0  # standard errors of a spread that are added to it
HALVINGS = 20


def coded(keys, low, step):
    """Keys [G, n, D] as codes of BITS bits, packed into int32 words [G, n, D * BITS / 32]."""
    codes = ((keys - low) / step).round().clamp(0, 2**BITS - 1).long()
    words = codes.unflatten(-1, (-1, 32 // BITS)) << (BITS * torch.arange(32 // BITS))
    return words.sum(-1).to(torch.int32)


def predicted(queries, codes, low, step):
    """The largest attention weight [G, N] that one of the queries [G, group, D] has by the coded keys."""
    codes = (codes[..., None] >> (BITS * torch.arange(32 // BITS))) & (2**BITS - 1)
    keys = codes.flatten(2) * step.float() + low.float()
    return (queries @ keys.transpose(1, 2) / keys.shape[2] ** 0.5).softmax(-1).amax(1)


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
    def prefill(self, keys):
        later = keys[:, SINKS:]
        self.low = later.amin(1, keepdim=True).half()  # [G, 1, D]
        self.step = ((later.amax(1, keepdim=True) - self.low) / (2**BITS - 1)).half()
        self.codes = Index(coded(keys, self.low.float(), self.step.float()))

    def append(self, keys):
        self.codes.append(coded(keys, self.low.float(), self.step.float()))

    def select(self, query, cache, goal, generator):
        group = cache.heads // cache.kv_heads
        queries = query.view(cache.kv_heads, group, -1)
        ranking = predicted(queries, self.codes.read(), self.low, self.step)
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
