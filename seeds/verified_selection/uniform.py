"""A uniform sample of all tokens, of a size by the ratio rule: no token is read for certain."""

import math

import torch

PILOT = 0.05  # share of the tokens


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
    def select(self, query, cache, goal, generator):
        n, group = cache.length, cache.heads // cache.kv_heads
        pilot = max(2, int(PILOT * n))
        order = torch.stack([torch.randperm(n, generator=generator) for _ in range(cache.kv_heads)])
        scores = cache.scores(query, order[:, :pilot]).view(cache.kv_heads, group, -1)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        values = cache.values(order[:, :pilot])
        output = weights @ values / weights.sum(-1, keepdim=True)
        if goal.quantity == "denominator":
            spread, scale = weights.std(-1), weights.mean(-1)
        else:
            middle = output[:, :, None] if goal.quantity == "output" else 0.0
            spread = (weights[..., None] * (values[:, None] - middle)).var(2).sum(-1).sqrt()
            scale = (weights @ values / pilot).norm(dim=-1)
        needed = ((quantile(1 - goal.delta / 2) * spread / (goal.epsilon * scale)) ** 2).amax(1)
        counts = (needed * n / (needed + n)).ceil().clamp(pilot, n).long()
        most = int(counts.max())
        drawn = torch.where(torch.arange(most) < counts[:, None], order[:, :most], -1)
        chances = (counts / n)[:, None].expand(-1, most)
        return drawn.repeat_interleave(group, 0), chances.repeat_interleave(group, 0)
