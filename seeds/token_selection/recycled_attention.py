"""Recycled Attention: what a step of full attention looked at serves the steps after it.

Xu et al., "Recycled Attention: Efficient inference for long-context language models", arXiv:2411.05787: full
attention every S steps, between them the best K tokens of the last full step and the newest ones. A full step
costs more than these budgets carry over a few steps, so here the last tokens of the prompt are the full step.
"""

import torch

LAST = 4  # queries of the prompt's end that are looked at
SINKS = 4
WINDOW = 16


class Policy:
    def observe(self, queries, positions, keys):
        grouped = queries[:, -LAST:].reshape(keys.shape[0], -1, keys.shape[2])
        weights = (grouped @ keys.transpose(1, 2) / keys.shape[2] ** 0.5).softmax(-1).sum(1)  # [G, N]
        weights[:, :SINKS] = torch.inf
        self.seen = keys.shape[1]
        older = weights[:, :-WINDOW]  # the window is read anyway
        self.order = Index(older.argsort(descending=True, stable=True)[..., None].to(torch.int16))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        kept = cache.affordable(budget)
        if kept >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        recent = torch.arange(cache.length - min(kept // 2, cache.length - self.seen + WINDOW), cache.length)
        row = 4 * cache.head_size  # bytes of a token; its place in the list takes two more
        count = min(self.order.length, (kept - len(recent)) * row // (row + 2))
        recycled = self.order.gather(torch.arange(count).expand(cache.kv_heads, -1))[..., 0].long()
        tokens = torch.cat([recycled, recent.expand(cache.kv_heads, -1)], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
