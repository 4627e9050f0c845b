"""Importance sampling: each token is drawn on its own, in proportion to its attention weight as a copy of the
keys in two bits a channel predicts it.

The inclusion probabilities of least variance are proportional to w |v - output|; what MagicPIG (Chen et al.,
arXiv:2410.16179) takes from hash collisions comes from a low-bit copy here, as in SpeCache (Jie et al.,
arXiv:2503.16163). A first draw estimates the error as a function of the expected size; what it has read
stays, and the rest is drawn so that the error of the output is within the goal.
"""

import math

import torch

BITS = 2  # a channel
SINKS = 16
WINDOW = 32
FLOOR = 0.5  # of the mean predicted weight, added to that of every token
PILOT = 0.08  # share of the tokens that the first draw reads
MARGIN = 1.3  # times the estimated variance
HALVINGS = 30


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


def chances(likely, total):
    """Probabilities min(1, c likely) [N] that sum to `total`."""
    low, high = 0.0, float(total / likely.min())
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float((middle * likely).clamp(max=1).sum()) < total:
            low = middle
        else:
            high = middle
    return (high * likely).clamp(max=1)


def later_chances(likely, first, seen, squares, allowed):
    """Probabilities of the second draw [N], the smallest with which the variance is within what is allowed.

    likely and first (the probabilities of the first draw) [N], seen [n] are the tokens that it drew; squares
    [heads, n] of what each of them adds to the numerator, allowed [heads] the variance.
    """
    low, high = 0.0, float(1 / likely.min())
    share = (1 - first[seen]) / first[seen]  # unseen tokens that each seen one stands for
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        p = (middle * likely[seen]).clamp(1e-6, 1 - 1e-6)
        variance = (squares * share * (1 - p) / p).sum(1) * MARGIN
        if bool((variance <= allowed).all()):
            high = middle
        else:
            low = middle
    return (high * likely).clamp(max=1)


class Policy:
    def prefill(self, keys):
        later = keys[:, SINKS:]
        self.low = later.amin(1, keepdim=True).half()  # [G, 1, D]
        self.step = ((later.amax(1, keepdim=True) - self.low) / (2**BITS - 1)).half()
        self.codes = Index(coded(keys, self.low.float(), self.step.float()))

    def append(self, keys):
        self.codes.append(coded(keys, self.low.float(), self.step.float()))

    def select(self, query, cache, goal, generator):
        group, n = cache.heads // cache.kv_heads, cache.length
        queries = query.view(cache.kv_heads, group, -1)
        likely = predicted(queries, self.codes.read(), self.low, self.step)
        likely = likely + FLOOR * likely.mean(1, keepdim=True)
        likely[:, :SINKS] = torch.inf  # read for certain
        likely[:, -WINDOW:] = torch.inf
        z = quantile(1 - goal.delta / 2)
        indices = torch.full((cache.kv_heads, n), -1)
        probability = torch.ones(cache.kv_heads, n)
        rows, firsts = [], []
        for head in range(cache.kv_heads):
            firsts.append(chances(likely[head], PILOT * n + SINKS + WINDOW))
            rows.append((torch.rand(n, generator=generator) < firsts[head]).nonzero()[:, 0])
        most = max(len(row) for row in rows)
        padded = torch.stack([torch.cat([row, row[:1].expand(most - len(row))]) for row in rows])
        scores = cache.scores(query, padded).view(cache.kv_heads, group, most)
        values = cache.values(padded)
        for head in range(cache.kv_heads):
            seen, first = rows[head], firsts[head]
            weights = (scores[head, :, : len(seen)] - scores[head, :, : len(seen)].amax()).exp()
            mine = values[head, : len(seen)]
            numerator = (weights / first[seen]) @ mine
            denominator = (weights / first[seen]).sum(-1)
            if goal.quantity == "denominator":
                squares, scale = weights**2, denominator
            else:
                output = numerator / denominator[:, None]
                middle = output[:, None] if goal.quantity == "output" else 0.0
                squares = weights**2 * (mine - middle).square().sum(-1)
                scale = numerator.norm(dim=-1)
            p = later_chances(likely[head], first, seen, squares, (goal.epsilon * scale / z) ** 2)
            drawn = torch.rand(n, generator=generator) < p
            drawn[seen] = False
            later = drawn.nonzero()[:, 0]
            indices[head, : len(seen)] = seen
            indices[head, len(seen) : len(seen) + len(later)] = later
            probability[head, len(seen) : len(seen) + len(later)] = p[later]
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
