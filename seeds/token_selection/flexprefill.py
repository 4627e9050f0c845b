"""FlexPrefill: a head reads the fewest blocks or tokens that together reach a share of its attention.

Lai et al., "FlexPrefill: A Context-Aware Sparse Attention Mechanism for Efficient Long-Sequence Inference",
arXiv:2502.20766, as a selector. Blocks are estimated from their mean key. For the last queries of the prompt
the estimate is compared with their attention: where the root of the Jensen-Shannon divergence is below a
threshold, a head goes by the blocks of each query, else by the tokens that these last queries attended
(vertical lines; the newest tokens stand for slashes). The share that has to be reached is the same for all
heads of a layer, and as large as the budget carries: flat heads read more.
"""

import torch

BLOCK = 16
ALIKE = 0.1  # root of the divergence below which the estimate is believed
LAST = 64  # queries of the end of the prompt
WINDOW = 16
SINKS = 4
HALVINGS = 20


def divergence(one, other):
    """Jensen-Shannon divergence of distributions [..., n], in nats."""
    middle = (one + other) / 2
    parts = [p * ((p + 1e-9) / (middle + 1e-9)).log() for p in (one, other)]
    return (parts[0] + parts[1]).sum(-1) / 2


class Policy:
    def observe(self, queries, positions, keys):
        heads, count, size = keys.shape
        blocks = count // BLOCK
        means = keys[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK)).mean(2)
        self.scale = (means.abs().amax(1, keepdim=True) / 120).half()
        self.means = Index((means / self.scale.float()).round().clamp(-128, 127).to(torch.int8))
        last = queries[:, -LAST:].reshape(heads, -1, size)
        weights = (last @ keys.transpose(1, 2) / size**0.5).softmax(-1).mean(1)  # [G, N]
        true = weights[:, : blocks * BLOCK].unflatten(1, (blocks, BLOCK)).sum(-1)
        estimate = (last @ means.transpose(1, 2) / size**0.5).softmax(-1).mean(1)
        self.aware = divergence(true / true.sum(1, keepdim=True), estimate).sqrt() < ALIKE  # [G]
        ranking = weights.index_fill(1, torch.arange(SINKS), torch.inf)
        order = ranking.argsort(descending=True, stable=True)
        self.lines = Index(order[..., None].to(torch.int16))
        self.mass = Index(weights.gather(1, order)[..., None].half())
        self.known = blocks * BLOCK

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        most = min(self.lines.length, 3 * int(budget * cache.length))
        rows = torch.arange(most).expand(cache.kv_heads, -1)
        orders, masses = self.lines.gather(rows)[..., 0].long(), self.mass.gather(rows)[..., 0].float()
        if self.aware.any():
            means = self.means.read() * self.scale.float()
            scores = query.view(cache.kv_heads, group, -1) @ means.transpose(1, 2) / cache.head_size**0.5
            shares = scores.softmax(-1).mean(1)  # [G, blocks]
            ranking = shares.index_fill(1, torch.arange(1), torch.inf)  # the sinks first
        newest = min(cache.affordable(budget) // 2, cache.length - self.known + WINDOW)
        begin = cache.length - newest
        found = []  # tokens of each head, the most attended first, and the attention before each of them
        for head in range(cache.kv_heads):
            tokens, mass = orders[head], masses[head]
            if self.aware[head]:
                order = ranking[head].argsort(descending=True, stable=True)
                tokens = (order[:, None] * BLOCK + torch.arange(BLOCK)).flatten()
                mass = shares[head][order].repeat_interleave(BLOCK) / BLOCK
            older = tokens < begin
            tokens, mass = tokens[older], mass[older]
            found.append((tokens, mass.cumsum(0) - mass))
        total = cache.kv_heads * (cache.affordable(budget) - newest)
        low, high = 0.0, float(max(before[-1] for _, before in found)) + 1
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if sum(int((before < middle).sum()) for _, before in found) <= total:
                low = middle
            else:
                high = middle
        lists = [tokens[before < low] for tokens, before in found]
        width = max(len(tokens) for tokens in lists)
        chosen = torch.full((cache.kv_heads, width), -1)
        for head, tokens in enumerate(lists):
            chosen[head, : len(tokens)] = tokens
        recent = torch.arange(begin, cache.length).expand(cache.kv_heads, -1)
        indices = torch.cat([chosen, recent], 1).repeat_interleave(group, 0)
        return indices, torch.ones(indices.shape)
