"""Squeezed Attention's centroids with a sampled residual.

Index: Hooper et al., arXiv:2411.09688.  Sampling: Desai et al., "vAttention: Verified Sparse Attention",
arXiv:2510.05688: what the index ranks first is read for certain, a uniform sample of the rest carries the
weight of the inverse inclusion probability. Here with a fixed share.
"""

import torch

TOKENS_PER_CLUSTER = 32
ROUNDS = 3  # of k-means; five change the score by less than 0.02
SINKS = 4
SAMPLED = 0.5  # share of the tokens


def cluster(keys, count):
    """k-means on directions: keys [G, N, D] give labels [G, N] and mean keys [G, count, D] (zero where
    empty).
    """
    unit = keys / keys.norm(dim=-1, keepdim=True)
    centres = unit[:, torch.linspace(0, keys.shape[1] - 1, count).long()]
    for _ in range(ROUNDS):
        labels = (unit @ centres.transpose(1, 2)).argmax(-1)
        places = labels[..., None].expand_as(keys)
        centres = torch.zeros_like(centres).scatter_add(1, places, unit)
        centres = centres / centres.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    sizes = torch.zeros(keys.shape[0], count).scatter_add(1, labels, torch.ones(labels.shape))
    means = torch.zeros_like(centres).scatter_add(1, places, keys) / sizes[..., None].clamp(min=1)
    return labels, means, sizes


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
    def prefill(self, keys):
        self.clustered = keys.shape[1]
        labels, means, sizes = cluster(keys, max(1, keys.shape[1] // TOKENS_PER_CLUSTER))
        self.means = Index(means.half())  # [G, C, D]
        self.sizes = Index(sizes[..., None].to(torch.int16))  # [G, C, 1]
        self.labels = Index(labels[..., None].to(torch.uint8))  # [G, N, 1], one byte a token

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        means, sizes = self.means.read().float(), self.sizes.read()[..., 0].long()
        scores = query.view(cache.kv_heads, group, -1) @ means.transpose(1, 2) / cache.head_size**0.5
        weights = (scores + sizes.float().log()[:, None]).softmax(-1) / sizes.clamp(min=1)[
            :, None
        ]  # per token
        labels = self.labels.read()[..., 0].long()
        ranking = weights.sum(1).gather(1, labels)  # [G, N] but for the newest tokens
        ranking[:, :SINKS] = torch.inf
        newest = torch.full((cache.kv_heads, cache.length - self.clustered), torch.inf)
        tokens, probability = mixed(torch.cat([ranking, newest], 1), cache.affordable(budget), generator)
        return tokens.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
