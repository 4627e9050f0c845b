"""SALE: scores are estimated from four bits of each channel, and count relative to those of sinks and window.

Ji et al., "SALE: Low-bit Estimation for Efficient Sparse Attention in Long-context LLM Prefilling",
arXiv:2505.24179: a token is skipped if its estimated weight stays too small relative to that of the first
and the newest tokens, which the head attends anyway. Here the latter is exact, and a token counts by the sum
of its relative weights over the heads of a group. Four bits of all channels cost an eighth of what dense
attention reads: channels are kept in parts, those that weigh most in the prompt first, and a budget reads as
many as it can carry.
"""

import torch

BITS = 4
PART = 8  # channels in a part: one int32 per token
INDEX_SHARE = 0.35  # the most of a budget that the index may take, unless that is less than one part
SINKS = 4
WINDOW = 16


def labelled(keys, channels, low, step):
    """Four bits of all channels of keys [G, n, D], the heaviest first: int32 [G, n, 1] for each part."""
    codes = ((keys - low[:, None].float()) / step[:, None].float()).round()
    codes = codes.clamp(0, 2**BITS - 1).long()
    codes = codes.gather(2, channels.long()[:, None].expand_as(keys)).unflatten(2, (-1, PART))
    return (codes << (BITS * torch.arange(PART))).sum(-1).to(torch.int32).split(1, 2)


class Policy:
    def observe(self, queries, positions, keys):
        grouped = queries.view(keys.shape[0], -1, keys.shape[2])
        weight = grouped.abs().mean(1) * keys.abs().mean(1)  # [G, D]
        self.channels = weight.argsort(descending=True, stable=True).to(torch.uint8)
        usual = keys[:, SINKS:]  # the sinks are read anyway, and far from all others
        self.low = usual.amin(1).half()
        self.step = ((usual.amax(1) - usual.amin(1)) / (2**BITS - 1)).clamp(min=1e-3).half()
        self.parts = [Index(part) for part in labelled(keys, self.channels, self.low, self.step)]

    def append(self, keys):
        new = labelled(keys, self.channels, self.low, self.step)
        for part, labels in zip(self.parts, new, strict=True):
            part.append(labels)

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        count = int(INDEX_SHARE * budget * cache.head_size)  # a part takes four of a token's 4 D bytes
        count = min(len(self.parts), max(1, count))
        packed = torch.cat([part.read() for part in self.parts[:count]], 2)  # [G, N, count]
        codes = ((packed[..., None] >> (BITS * torch.arange(PART))) & (2**BITS - 1)).flatten(2)
        channels = self.channels.long()[:, : codes.shape[2]]
        low, step = (part.float().gather(1, channels)[:, None] for part in (self.low, self.step))
        places = channels[:, None].expand(-1, group, -1)
        part = query.view(cache.kv_heads, group, -1).gather(2, places)
        estimate = part @ (codes * step + low).transpose(1, 2) / cache.head_size**0.5  # [G, group, N]
        kept = cache.affordable(budget)
        sinks = torch.arange(min(SINKS, kept // 2))
        recent = torch.arange(cache.length - min(WINDOW, kept // 2), cache.length)
        certain = torch.cat([sinks, recent])
        anchor = cache.scores(query, certain.expand(cache.kv_heads, -1))  # [H, sinks and window]
        anchor = anchor.view(cache.kv_heads, group, -1)
        # what is left out of a key is taken to be what it is for the newest tokens in the mean
        missing = (anchor[..., len(sinks) :] - estimate[..., recent]).mean(-1, keepdim=True)
        relative = (estimate + missing - anchor.logsumexp(-1, keepdim=True)).exp().sum(1)  # [G, N]
        relative[:, certain] = torch.inf
        tokens = relative.topk(kept).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
