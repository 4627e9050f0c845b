"""Squeezed Attention: cluster the keys once, compare the query with the centroids, read the best clusters.

Hooper et al., "Squeezed Attention: Accelerating Long Context Length LLM Inference", arXiv:2411.09688,
section 4: k-means on normalised keys, clusters ranked by the softmax of their centroids weighted by their
sizes. Tokens that came after the clustering are read as a recent window.
"""

import torch

TOKENS_PER_CLUSTER = 32
ROUNDS = 3  # of k-means; five change the score by less than 0.02
SINKS = 4


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


class Policy:
    def prefill(self, keys):
        self.clustered = keys.shape[1]
        labels, means, sizes = cluster(keys, max(1, keys.shape[1] // TOKENS_PER_CLUSTER))
        self.means = Index(means.half())  # [G, C, D]
        self.sizes = Index(sizes[..., None].to(torch.int16))  # [G, C, 1]
        self.members = Index(
            labels.argsort(stable=True)[..., None].to(torch.int16)
        )  # [G, N, 1], cluster by cluster

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
        order = weights.sum(1).argsort(descending=True)  # [G, C]
        kept = int(cache.affordable(budget) * 0.98)  # the member list costs two bytes a token
        newest = torch.arange(max(self.clustered, cache.length - kept // 2), cache.length)
        places = torch.arange(max(1, kept - len(newest) - SINKS)).expand(cache.kv_heads, -1).contiguous()
        ends = sizes.gather(1, order).cumsum(1)
        rank = torch.searchsorted(ends, places, right=True)  # which cluster in order a place falls into
        chosen = order.gather(1, rank)
        within = places - (ends - sizes.gather(1, order)).gather(1, rank)
        starts = sizes.cumsum(1) - sizes
        tokens = self.members.gather(starts.gather(1, chosen) + within)[..., 0].long()
        sinks = torch.arange(SINKS).expand(cache.kv_heads, -1)
        tokens = torch.where(tokens < SINKS, -1, tokens)  # the sinks are read anyway
        tokens = torch.cat([sinks, tokens, newest.expand(cache.kv_heads, -1)], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
