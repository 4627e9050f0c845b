"""The fewest of the heaviest tokens with which all heads of a group are within epsilon: nothing is sampled.

A bound, never a candidate, because it sees all keys and values for free.
"""

import torch


class Policy:
    def select(self, query, cache, goal, generator):
        n, group = cache.length, cache.heads // cache.kv_heads
        tokens = torch.arange(n).expand(cache.kv_heads, -1)
        weights = cache.scores(query, tokens).softmax(-1).view(cache.kv_heads, group, n)
        order = weights.sum(1).argsort(descending=True)  # [G, N]
        values = cache.values(order)
        kept = torch.ones(cache.kv_heads)
        for head in range(group):
            mine = weights[:, head].gather(1, order)
            mass = mine.cumsum(1)
            sums = (mine[..., None] * values).cumsum(1)  # [G, N, D]
            exact = sums[:, -1:]
            found = sums if goal.quantity == "numerator" else sums / mass[..., None]
            errors = (found - exact).norm(dim=-1) / exact.norm(dim=-1)
            if goal.quantity == "denominator":
                errors = 1 - mass
            beyond = (errors > goal.epsilon * 0.99) * torch.arange(2, n + 2)
            kept = torch.maximum(kept, beyond.amax(1).clamp(max=n))  # one more than the last that is beyond
        most = int(kept.max())
        indices = torch.where(torch.arange(most) < kept[:, None], order[:, :most], -1)
        return indices.repeat_interleave(group, 0), torch.ones(cache.heads, most)
