"""SparQ's partial-channel scores with a sampled residual.

Index: Ribar et al., arXiv:2312.04985.  Sampling: Desai et al., "vAttention: Verified Sparse Attention",
arXiv:2510.05688: what the index ranks first is read for certain, a uniform sample of the rest carries the
weight of the inverse inclusion probability. Here with a fixed share.
"""

import torch

CHANNEL_SHARE = 0.5  # of the budget goes into reading channels
SINKS = 4
WINDOW = 16
SAMPLED = 0.5  # share of the tokens


def mixed(ranking, kept, generator):
    """The heaviest tokens for certain and a uniform sample of the rest: tokens and probabilities, [G, kept]
    each.
    """
    sampled = int(kept * SAMPLED)
    order = ranking.argsort(descending=True, stable=True)  # [G, N]
    rest = order[:, kept - sampled :]
    places = torch.randperm(rest.shape[1], generator=generator)[:sampled]
    tokens = torch.cat([order[:, : kept - sampled], rest[:, places]], 1)
    probability = torch.ones(tokens.shape)
    probability[:, kept - sampled :] = sampled / rest.shape[1]
    return tokens, probability


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
        tokens, probability = mixed(ranking, cache.affordable(budget), generator)
        return tokens.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
