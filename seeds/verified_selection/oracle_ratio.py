"""The ratio rule with nothing left to estimate: the heaviest tokens for certain, and of the others a uniform
sample whose size comes from the exact spread; of all sizes of the heavy set the one that reads the least.

A bound, never a candidate, because it sees all keys and values for free.
"""

import math

import torch

WAYS = 24  # sizes of the heavy set that are tried


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
        length, group = cache.length, cache.heads // cache.kv_heads
        tokens = torch.arange(length).expand(cache.kv_heads, -1)
        weights = cache.scores(query, tokens).softmax(-1).view(cache.kv_heads, group, length)
        order = weights.sum(1).argsort(descending=True)  # [G, N]
        values = cache.values(order)
        mine = weights.gather(2, order[:, None].expand(-1, group, -1))
        exact = mine @ values  # [G, group, D]
        if goal.quantity == "denominator":
            moved = mine[..., None]
        else:
            middle = exact[:, :, None] if goal.quantity == "output" else 0.0
            moved = mine[..., None] * (values[:, None] - middle)  # [G, group, N, D]
        scale = torch.ones(exact.shape[:2]) if goal.quantity == "denominator" else exact.norm(dim=-1)
        # sums over what is left when the first tokens are read for certain
        squares = moved.square().sum(-1).flip(2).cumsum(2).flip(2)
        sums = moved.flip(2).cumsum(2).flip(2).square().sum(-1)
        z = quantile(1 - goal.delta / 2)
        best = torch.full((cache.kv_heads,), float(length))
        chosen = torch.zeros(cache.kv_heads)
        for way in range(WAYS):
            heavy = int(length * (way / WAYS) ** 2)
            n = length - heavy
            variance = (squares[..., heavy] / n - sums[..., heavy] / n**2).clamp(min=0)
            needed = ((z * n / (goal.epsilon * scale)) ** 2 * variance).amax(1)
            size = (needed * n / (needed + n)).ceil().clamp(2, n)
            better = heavy + size < best
            chosen = torch.where(better, heavy, chosen)
            best = torch.where(better, heavy + size, best)
        indices = torch.full((cache.kv_heads, int(best.max())), -1)
        probability = torch.ones(indices.shape)
        for head in range(cache.kv_heads):
            heavy, total = int(chosen[head]), int(best[head])
            rest = order[head, heavy:]
            drawn = rest[torch.randperm(len(rest), generator=generator)[: total - heavy]]
            indices[head, :total] = torch.cat([order[head, :heavy], drawn])
            probability[head, heavy:total] = len(drawn) / max(1, len(rest))
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
