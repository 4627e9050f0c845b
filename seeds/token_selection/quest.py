"""Quest: rank pages of keys by an upper bound of their scores, read the best pages.

Tang et al., "Quest: Query-Aware Sparsity for Efficient Long-Context LLM Inference", arXiv:2406.10774; the
same page bounds serve LServe, arXiv:2502.14866. The minimum and maximum of each channel over a page bound
every score in it. Where a budget cannot carry the index, sinks and a recent window are read instead.
"""

import torch

PAGE = 16  # section 4.1
INDEX_SHARE = 0.7  # the most of a budget that the index may take
SINKS = 4


class Policy:
    def prefill(self, keys):
        pages = keys.shape[1] // PAGE
        blocks = keys[:, : pages * PAGE].view(keys.shape[0], pages, PAGE, -1)
        self.bounds = Index(torch.stack([blocks.amin(2), blocks.amax(2)], 2).half())  # [G, P, 2, D]
        tail = keys[:, pages * PAGE :]
        self.low = (
            torch.cat([tail, torch.full_like(keys[:, :1], 6e4)], 1).amin(1).half()
        )  # the page being filled
        self.high = torch.cat([tail, torch.full_like(keys[:, :1], -6e4)], 1).amax(1).half()
        self.open = tail.shape[1]

    def append(self, keys):
        self.low = torch.minimum(self.low, keys[:, 0].half())
        self.high = torch.maximum(self.high, keys[:, 0].half())
        self.open += 1
        if self.open == PAGE:
            self.bounds.append(torch.stack([self.low, self.high], 1)[:, None])
            self.low = torch.full_like(self.low, 6e4)
            self.high = torch.full_like(self.high, -6e4)
            self.open = 0

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        if INDEX_SHARE * budget < 1 / PAGE:
            kept = cache.affordable(budget)
            sinks = torch.arange(min(SINKS, kept))
            recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
            tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        low, high = self.bounds.read().float().unbind(2)  # [G, P, D] each
        queries = query.view(cache.kv_heads, group, -1)
        bound = queries.clamp(min=0) @ high.transpose(1, 2) + queries.clamp(max=0) @ low.transpose(1, 2)
        ranking = (bound / cache.head_size**0.5).softmax(-1).sum(1)  # [G, P], shared by the query heads
        kept = cache.affordable(budget) - self.open  # the page being filled is always read
        pages = ranking.topk(min(max(1, kept // PAGE), ranking.shape[1])).indices
        tokens = (pages[:, :, None] * PAGE + torch.arange(PAGE)).flatten(1)
        newest = torch.arange(cache.length - self.open, cache.length).expand(cache.kv_heads, -1)
        tokens = torch.cat([tokens, newest], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
