"""LServe: pages are chosen by the bounds of the smaller pages in them, and a choice serves several steps.

Yang et al., "LServe: Efficient Long-sequence LLM Serving with Unified Sparse Attention", arXiv:2502.14866:
logical pages of 16 tokens know the least and the greatest value of each channel; the best bound of its
logical pages ranks a physical page, which is read whole; the selector is reused. Bounds have one byte a
channel here, and physical pages 32 tokens, because contexts are short. Streaming heads: see duo_attention.
"""

import torch

LOGICAL = 16  # tokens
PHYSICAL = 2  # logical pages
REUSED = 4  # steps that a choice serves
INDEX_SHARE = 0.5  # the most of a budget that the index may take
SINKS = 4


def outwards(low, high, scale):
    """Bounds [G, p, D] each as one byte a channel [G, p, 2, D], rounded outwards."""
    both = torch.stack([(low / scale.float()).floor(), (high / scale.float()).ceil()], 2)
    return both.clamp(-128, 127).to(torch.int8)


class Policy:
    def prefill(self, keys):
        pages = keys.shape[1] // LOGICAL
        self.scale = (keys.abs().amax(1, keepdim=True) / 120).half()  # [G, 1, D]; new keys may be larger
        logical = keys[:, : pages * LOGICAL].unflatten(1, (pages, LOGICAL))
        self.bounds = Index(outwards(logical.amin(2), logical.amax(2), self.scale))  # [G, P, 2, D]
        tail = keys[:, pages * LOGICAL :]
        self.low = torch.cat([tail, torch.full_like(keys[:, :1], 6e4)], 1).amin(1).half()  # of the open page
        self.high = torch.cat([tail, torch.full_like(keys[:, :1], -6e4)], 1).amax(1).half()
        self.open = tail.shape[1]
        self.age = REUSED

    def append(self, keys):
        self.low = torch.minimum(self.low, keys[:, 0].half())
        self.high = torch.maximum(self.high, keys[:, 0].half())
        self.open += 1
        self.age += 1
        if self.open == LOGICAL:
            low, high = self.low[:, None].float(), self.high[:, None].float()
            self.bounds.append(outwards(low, high, self.scale))
            self.low = torch.full_like(self.low, 6e4)
            self.high = torch.full_like(self.high, -6e4)
            self.open = 0

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        if INDEX_SHARE * budget < 1 / (2 * LOGICAL):
            kept = cache.affordable(budget)
            sinks = torch.arange(min(SINKS, kept))
            recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
            tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        pages = self.bounds.length // PHYSICAL
        size = PHYSICAL * LOGICAL
        if self.age >= REUSED:
            bounds = self.bounds.read()[:, : pages * PHYSICAL] * self.scale.float()[:, None]
            low, high = bounds.unbind(2)  # [G, logical pages, D]
            queries = query.view(cache.kv_heads, group, -1)
            bound = queries.clamp(min=0) @ high.transpose(1, 2) + queries.clamp(max=0) @ low.transpose(1, 2)
            best = bound.unflatten(-1, (pages, PHYSICAL)).amax(-1) / cache.head_size**0.5
            ranking = best.softmax(-1).sum(1)  # [G, pages]
            ranking[:, 0] = torch.inf  # the sinks
            self.choice = ranking.argsort(descending=True, stable=True).to(torch.int16)
            self.age = 0
        kept = cache.affordable(budget)
        newest = torch.arange(max(self.choice.shape[1] * size, cache.length - kept), cache.length)
        kept -= len(newest)
        tokens = (self.choice.long()[:, : kept // size, None] * size + torch.arange(size)).flatten(1)
        tokens = torch.cat([tokens, newest.expand(cache.kv_heads, -1)], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
