"""DuoAttention: streaming heads read sinks and a short window, retrieval heads what else is affordable.

Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
arXiv:2410.10819: a gate for each KV head is learnt from what the output loses with a window only, against a
price for a gate that is open. For gates a in [0, 1] and the loss (1 - a)^2 loss + price a the best one is
1 - price / (2 loss), where that is positive. The published retrieval heads keep the whole cache; here the
budget goes into longer windows, in proportion to the gates.
"""

import torch

PRICE = 0.05
LEAST = 0.2  # of an equal share, which a head without a gate gets, too
SINKS = 4


class Policy:
    def calibrate(self, learnt):
        self.gates = (1 - PRICE / (2 * learnt["loss"].float().clamp(min=1e-4))).clamp(min=0).half()  # [G]

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        gates = self.gates.float() + 1e-3
        shares = LEAST / len(gates) + (1 - LEAST) * gates / gates.sum()
        counts = (cache.affordable(budget) * cache.kv_heads * shares).long().clamp(2 * SINKS, cache.length)
        rank = torch.arange(int(counts.max()))
        newest = cache.length - counts[:, None] + rank  # [G, m]; the first ones make place for the sinks
        tokens = torch.where(rank < SINKS, rank, newest).masked_fill(rank >= counts[:, None], -1)
        tokens = tokens.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
