"""Scissorhands: what was pivotal in the past will be; tokens that were seldom below the mean stay.

Liu et al., "Scissorhands: Exploiting the Persistence of Importance Hypothesis for LLM KV Cache Compression at
Test Time", arXiv:2305.17118, algorithm 2: over a window of past queries it is counted how often a token had
less than the mean weight, 1 / tokens; those with the lowest counts and the newest tokens are kept. The past
is the prompt here; of equal counts the greater weight decides.
"""

import torch

RECENT = 10


class Policy:
    def observe(self, queries, positions, keys):
        count, size = queries.shape[1:]
        scores = queries.view(keys.shape[0], -1, size) @ keys.transpose(1, 2) / size**0.5
        scores = scores.unflatten(1, (-1, count))  # [G, group, P, N]
        visible = torch.arange(keys.shape[1]) <= positions[:, None]  # [P, N]
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        pivotal = (weights >= 1 / (positions[:, None] + 1.0)) & visible
        share = pivotal.float().sum((1, 2)) / visible.sum(0).clamp(min=1)  # [G, N]
        ranking = share + weights.mean((1, 2))  # the weight is below the least difference of two shares
        self.seen = keys.shape[1]
        self.order = Index(ranking.argsort(descending=True, stable=True)[..., None].to(torch.int16))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        kept = cache.affordable(budget)
        if kept >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        newest = min(kept // 2, cache.length - self.seen + RECENT)
        recent = torch.arange(cache.length - newest, cache.length).expand(cache.kv_heads, -1)
        row = 4 * cache.head_size  # bytes of a token; its place in the list takes two more
        count = min(self.order.length, (kept - newest) * row // (row + 2))
        pivotal = self.order.gather(torch.arange(count).expand(cache.kv_heads, -1))[..., 0].long()
        pivotal = pivotal.masked_fill(pivotal >= cache.length - newest, -1)  # read anyway
        tokens = torch.cat([pivotal, recent], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
