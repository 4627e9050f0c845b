"""RazorAttention: heads that attend to copies read far back, others a window and what stands for the rest.

Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", arXiv:2407.15891:
retrieval heads are those with the most attention to earlier copies of a token and to what came after these;
the others drop distant tokens, and a compensation token, the mean of what was dropped with its number as
weight, stands for them. Here a few of the dropped tokens do so, drawn uniformly and weighted by how many each
stands for: that is what the estimator takes, and right in the mean.
"""

import torch

RETRIEVAL = 0.34  # of the KV heads of a layer, at least one
LONG = 0.6  # share of a layer's budget that goes to them
STANDING = 0.25  # share of the other heads' tokens that stand for what is dropped
SINKS = 4


class Policy:
    def calibrate(self, learnt):
        copies = learnt["copies"].float()
        far = copies.topk(max(1, int(RETRIEVAL * len(copies)))).indices
        self.far = torch.zeros(len(copies), dtype=torch.bool).index_fill(0, far, True)  # [G]

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        total = cache.affordable(budget) * cache.kv_heads
        count = int(self.far.sum())
        long = min(cache.length, int(total * LONG) // count)
        short = (total - long * count) // max(1, cache.kv_heads - count)
        tokens = torch.full((cache.kv_heads, max(long, short)), -1)
        probability = torch.ones(tokens.shape)
        for head, far in enumerate(self.far.tolist()):
            length = long if far else short
            standing = int(STANDING * length)
            sinks = min(SINKS, length - standing)
            recent = length - standing - sinks
            dropped = torch.arange(sinks, cache.length - recent)
            if standing >= len(dropped):
                tokens[head, : cache.length] = torch.arange(cache.length)[: tokens.shape[1]]
                continue
            drawn = dropped[torch.randperm(len(dropped), generator=generator)[:standing]]
            newest = torch.arange(cache.length - recent, cache.length)
            tokens[head, :length] = torch.cat([torch.arange(sinks), newest, drawn])
            probability[head, length - standing : length] = standing / len(dropped)
        return tokens.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
