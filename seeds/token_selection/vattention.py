"""vAttention: sinks, a window and an index's best tokens for certain, and of the rest a uniform sample, the
larger, the more the weights of a head vary.

Desai et al., "vAttention: Verified Sparse Attention", arXiv:2510.05688, with the index of HashAttention,
arXiv:2412.14468. A pilot sample estimates the spread of the residual's weights and the denominator; a head
needs (z n sigma / (epsilon D))^2 samples for an error of epsilon. Here epsilon is what the budget buys, the
same for all heads of a layer, and samples are drawn without replacement.
"""

import torch

BITS = 32
SINKS = 4
WINDOW = 16
INDEX_SHARE = 0.7  # the most of a budget that signs and maps may take
HEAVY = 0.7  # share of the tokens that is read for certain
PILOT = 0.1  # share of the tokens that is the pilot sample
HALVINGS = 30


def hashed(keys, key_map, key_shift):
    """Signs of keys [G, n, D] as one int32 each [G, n, 1]."""
    bits = (keys @ key_map.float() + key_shift.float() > 0).long()
    return (bits << torch.arange(BITS)).sum(-1, keepdim=True).to(torch.int32)


def shared(need, total, least, most):
    """Whole numbers in proportion to `need` [G] that sum to at most `total`, each from `least` to `most`."""
    low, high = 0.0, most / max(1e-9, float(need.min()))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if float((middle * need).clamp(least, most).floor().sum()) <= total:
            low = middle
        else:
            high = middle
    return (low * need).clamp(least, most).long()


class Policy:
    def calibrate(self, learnt):
        self.query_map = Index(learnt["query_map"])  # int8 [G, D, BITS]
        self.query_shift = learnt["query_shift"]  # fp16 [G, 1, BITS]
        self.key_map = Index(learnt["key_map"])
        self.key_shift = learnt["key_shift"]

    def prefill(self, keys):
        self.signs = Index(hashed(keys, self.key_map.read(), self.key_shift))  # [G, N, 1]

    def append(self, keys):
        self.signs.append(hashed(keys, self.key_map.read(), self.key_shift))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        row = 4 * cache.head_size  # bytes of a token
        if INDEX_SHARE * budget < (4 + 2 * BITS * cache.head_size / cache.length) / row:
            kept = cache.affordable(budget)
            sinks = torch.arange(min(SINKS, kept))
            recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
            tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        of_keys = 2.0 * ((self.signs.read() >> torch.arange(BITS)) & 1) - 1  # [G, N, BITS]
        of_query = query.view(cache.kv_heads, group, -1) @ self.query_map.read().float()
        of_query = (of_query + self.query_shift.float()).sign()
        ranking = (of_query @ of_keys.transpose(1, 2)).sum(1)  # [G, N], shared by the query heads
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        kept = cache.affordable(budget)
        heavy, pilot = int(kept * HEAVY), max(2, int(kept * PILOT))
        order = ranking.argsort(descending=True, stable=True)
        n = cache.length - heavy
        rest = torch.stack([row[heavy:][torch.randperm(n, generator=generator)] for row in order])  # [G, n]
        scores = cache.scores(query, torch.cat([order[:, :heavy], rest[:, :pilot]], 1))
        weights = scores.view(cache.kv_heads, group, -1)
        weights = (weights - weights.amax(-1, keepdim=True)).exp()
        residual = weights[..., heavy:]
        total = weights[..., :heavy].sum(-1) + residual.mean(-1) * n  # [G, group], the denominator
        need = ((n * residual.std(-1) / total) ** 2).amax(1)  # the head of a group that needs the most
        counts = shared(need, cache.kv_heads * (kept - heavy), pilot, n)  # [G]
        most = int(counts.max())
        rank = torch.arange(most)
        sampled = torch.where(rank < counts[:, None], rest[:, :most], -1)
        chances = (counts / n)[:, None].expand(-1, most)
        indices = torch.cat([order[:, :heavy], sampled], 1)
        probability = torch.cat([torch.ones(cache.kv_heads, heavy), chances], 1)
        return indices.repeat_interleave(group, 0), probability.repeat_interleave(group, 0)
