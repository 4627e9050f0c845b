"""HiP: a search tree without an index; halves of segments are compared by one key each, the best go on.

Lee et al., "A Training-free Sub-quadratic Cost Transformer Model Serving Framework With Hierarchically Pruned
Attention", arXiv:2406.09827: k segments are kept; each is cut in two, each half is known by a representative
key, and the k best halves are kept, until they are single tokens. The first token of a segment represents it,
so that a round reads one new key per segment. Sinks and a window are read besides.
"""

import math

import torch

SINKS = 4
WINDOW = 16


def strength(query, cache, tokens):
    """The largest score of tokens [G, m] among the query heads of their group."""
    return cache.scores(query, tokens).view(cache.kv_heads, -1, tokens.shape[1]).amax(1)


class Policy:
    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        kept = cache.affordable(budget)
        if kept >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        recent = torch.arange(cache.length - min(WINDOW, kept // 4), cache.length)
        first = min(SINKS, kept // 4)
        left = kept - len(recent) - first
        span = int(recent[0]) - first  # tokens first .. first + span - 1 are searched
        # k segments take k keys at the beginning and in each round, and k values at the end
        count = max(1, left)
        while count > 1 and count * (2 + math.ceil(math.log2(span / count))) > 2 * left:
            count -= 1
        starts = first + (torch.arange(count) * span // count).expand(cache.kv_heads, -1)
        ends = torch.cat([starts[:, 1:], torch.full_like(starts[:, :1], first + span)], 1)
        score = strength(query, cache, starts)
        while int((ends - starts).max()) > 1:
            middle = (starts + ends + 1) // 2  # of a single token it is its end
            inner = middle.clamp(max=first + span - 1)
            added = strength(query, cache, inner).masked_fill(middle >= ends, -torch.inf)
            best = torch.cat([score, added], 1).topk(count).indices
            starts, ends = (torch.cat(pair, 1).gather(1, best) for pair in ((starts, middle), (middle, ends)))
            score = torch.cat([score, added], 1).gather(1, best)
        certain = torch.cat([torch.arange(first), recent]).expand(cache.kv_heads, -1)
        tokens = torch.cat([certain, starts], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
