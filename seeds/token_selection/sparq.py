"""SparQ: estimate all scores from the few channels in which the query is largest, read the best tokens.

Ribar et al., "SparQ Attention: Bandwidth-Efficient LLM Inference", arXiv:2312.04985, steps 1 and 2 of
section 4. The paper's step 3 mixes in the mean value; the shared estimator leaves no place for it. The
number of channels follows the budget, because a channel costs the same at every budget.
"""

import torch

CHANNEL_SHARE = 0.5  # of the budget goes into reading channels
SINKS = 4
WINDOW = 16


class Policy:
    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        count = max(1, int(budget * CHANNEL_SHARE * 2 * cache.head_size))
        queries = query.view(cache.kv_heads, group, -1)  # [G, group, D]
        channels = queries.abs().sum(1).topk(count).indices  # [G, count], shared by the query heads
        part = queries.gather(2, channels[:, None].expand(-1, group, -1))
        covered = part.abs().sum(-1, keepdim=True) / queries.abs().sum(-1, keepdim=True)
        estimate = part @ cache.key_channels(channels).transpose(1, 2)
        weights = (estimate / (cache.head_size * covered) ** 0.5).softmax(
            -1
        )  # section 4: softened by what is missing
        ranking = weights.sum(1)  # [G, N]
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
