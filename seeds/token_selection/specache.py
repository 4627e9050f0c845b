"""SpeCache: a copy of the keys with one bit a channel says which tokens the full cache has to send.

Jie et al., "SpeCache: Speculative Key-Value Caching for Efficient Generation of LLMs", arXiv:2503.16163: a
low-bit copy stays with the GPU, and attention to it speculates what is fetched. Each channel has its mean
and, for the sign of what differs from it, its mean deviation. The published speculation runs a step ahead, to
hide the transfer; here the query is the step's own. A small budget reads the heaviest channels only.
"""

import torch

PART = 8  # channels in a part: one byte per token
INDEX_SHARE = 0.4  # the most of a budget that the index may take, unless that is less than one part
SINKS = 4
WINDOW = 16


def signed(keys, channels, middle):
    """Signs of all channels of keys [G, n, D], the heaviest first: uint8 [G, n, 1] for each part."""
    bits = (keys > middle[:, None].float()).long()
    bits = bits.gather(2, channels.long()[:, None].expand_as(keys)).unflatten(2, (-1, PART))
    return (bits << torch.arange(PART)).sum(-1).to(torch.uint8).split(1, 2)


class Policy:
    def observe(self, queries, positions, keys):
        self.middle = keys.mean(1).half()  # [G, D]
        deviation = (keys - self.middle[:, None].float()).abs().mean(1)
        self.deviation = deviation.half()
        weight = queries.view(keys.shape[0], -1, keys.shape[2]).abs().mean(1) * deviation
        self.channels = weight.argsort(descending=True, stable=True).to(torch.uint8)  # [G, D]
        self.parts = [Index(part) for part in signed(keys, self.channels, self.middle)]

    def append(self, keys):
        for part, signs in zip(self.parts, signed(keys, self.channels, self.middle), strict=True):
            part.append(signs)

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        count = int(INDEX_SHARE * budget * 4 * cache.head_size)  # a part takes one of a token's 4 D bytes
        count = min(len(self.parts), max(1, count))
        packed = torch.cat([part.read() for part in self.parts[:count]], 2)  # [G, N, count]
        signs = 2.0 * ((packed[..., None].long() >> torch.arange(PART)) & 1).flatten(2) - 1
        channels = self.channels.long()[:, : signs.shape[2]]
        places = channels[:, None].expand(-1, group, -1)
        part = query.view(cache.kv_heads, group, -1).gather(2, places)
        part = part * self.deviation.float().gather(1, channels)[:, None]
        weights = (part @ signs.transpose(1, 2) / cache.head_size**0.5).softmax(-1)
        ranking = weights.sum(1)  # [G, N]
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
