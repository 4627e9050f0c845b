"""A2ATS: keys are known by codewords, which are chosen for a small error of the scores, not of the keys.

He et al., "A2ATS: Retrieval-Based KV Cache Reduction via Windowed Rotary Position Embedding and Query-Aware
Vector Quantization", arXiv:2502.12665: the distance of a key to a codeword is weighted by the second moments
of the queries, and the scores of all tokens are those of their codewords. Queries are those of the prompt,
codewords belong to the context, and keys keep their positions (no windowed rotation): recorded keys have been
rotated already.
"""

import torch

TOKENS_PER_CODE = 48
ROUNDS = 4
SINKS = 4
WINDOW = 16


def nearest(keys, codes, metric):
    """The codeword whose scores differ least from those of each key [G, N]."""
    weighted = codes @ metric
    return (keys @ weighted.transpose(1, 2) - (weighted * codes).sum(-1)[:, None] / 2).argmax(-1)


class Policy:
    def observe(self, queries, positions, keys):
        heads, count, size = keys.shape
        grouped = queries.view(heads, -1, size)
        metric = grouped.transpose(1, 2) @ grouped / grouped.shape[1]  # [G, D, D], of the queries
        codes = keys[:, torch.linspace(0, count - 1, min(256, count // TOKENS_PER_CODE)).long()]
        for _ in range(ROUNDS):
            labels = nearest(keys, codes, metric)
            places = labels[..., None].expand_as(keys)
            sizes = torch.zeros(codes.shape[:2]).scatter_add(1, labels, torch.ones(labels.shape))
            means = torch.zeros_like(codes).scatter_add(1, places, keys) / sizes[..., None].clamp(min=1)
            codes = torch.where(sizes[..., None] > 0, means, codes)
        self.codes = Index(codes.half())  # [G, C, D]
        self.labels = Index(nearest(keys, codes, metric)[..., None].to(torch.uint8))  # [G, N, 1]
        self.known = count

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        codes, labels = self.codes.read().float(), self.labels.read()[..., 0].long()
        scores = query.view(cache.kv_heads, group, -1) @ codes.transpose(1, 2) / cache.head_size**0.5
        scores = scores.gather(2, labels[:, None].expand(-1, group, -1))  # [G, group, N]
        ranking = scores.softmax(-1).sum(1)
        newest = torch.full((cache.kv_heads, cache.length - self.known), torch.inf)
        ranking = torch.cat([ranking, newest], 1)
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
