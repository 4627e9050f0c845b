"""InfLLM-V2: blocks of tokens are ranked by means of overlapping spans, and the best blocks are read.

Zhao et al., "InfLLM-V2: Dense-Sparse Switchable Attention for Seamless Short-to-Long Adaptation",
arXiv:2509.24663, without its training: mean keys of spans of 32 tokens every 16 tokens, a softmax over them
for each head, the sum over the heads of a group, the largest value of the spans in a block; the first block
and the newest tokens are always read. Means have one byte a channel here, and blocks 32 tokens instead of 64,
because contexts are short.
"""

import torch

SPAN = 32
STRIDE = 16
BLOCK = 32
INDEX_SHARE = 0.5  # the most of a budget that the index may take
SINKS = 4


def rounded(means, scale):
    """Means [G, n, ...] as one byte a channel."""
    return (means / scale.float()).round().clamp(-128, 127).to(torch.int8)


class Policy:
    def prefill(self, keys):
        spans = (keys.shape[1] - SPAN) // STRIDE + 1
        means = keys.unfold(1, SPAN, STRIDE).mean(-1)  # [G, spans, D]
        self.scale = (means.abs().amax(1, keepdim=True) / 120).half()  # [G, 1, D]; new means may be larger
        self.means = Index(rounded(means, self.scale))
        self.half = keys[:, spans * STRIDE :][:, :STRIDE].sum(1).half()  # the first half of the next span
        rest = keys[:, (spans + 1) * STRIDE :]
        self.sum = rest.sum(1).half() + torch.zeros_like(self.half)
        self.open = rest.shape[1]

    def append(self, keys):
        self.sum = self.sum + keys[:, 0].half()
        self.open += 1
        if self.open == STRIDE:
            self.means.append(rounded((self.half + self.sum).float()[:, None] / SPAN, self.scale))
            self.half = self.sum
            self.sum = torch.zeros_like(self.half)
            self.open = 0

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        if INDEX_SHARE * budget < 1 / (4 * STRIDE):
            kept = cache.affordable(budget)
            sinks = torch.arange(min(SINKS, kept))
            recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
            tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        means = self.means.read() * self.scale.float()
        scores = query.view(cache.kv_heads, group, -1) @ means.transpose(1, 2) / cache.head_size**0.5
        spans = scores.softmax(-1).sum(1)  # [G, spans], shared by the query heads
        blocks = spans.shape[1] * STRIDE // BLOCK
        starts = torch.arange(blocks) * (BLOCK // STRIDE)
        inside = starts[:, None] + torch.arange(-1, BLOCK // STRIDE)  # spans that reach into a block
        ranking = spans[:, inside.clamp(0, spans.shape[1] - 1)].amax(-1)  # [G, blocks]
        ranking[:, 0] = torch.inf  # the sinks
        kept = cache.affordable(budget)
        newest = torch.arange(max(blocks * BLOCK, cache.length - kept), cache.length)
        kept -= len(newest)
        chosen = ranking.topk(min(kept // BLOCK, blocks)).indices
        tokens = (chosen[:, :, None] * BLOCK + torch.arange(BLOCK)).flatten(1)
        tokens = torch.cat([tokens, newest.expand(cache.kv_heads, -1)], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
