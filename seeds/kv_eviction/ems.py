"""EMS: tokens that matter globally or locally stay, the next ones are merged into them, the rest leaves.

Li et al., "EMS: Adaptive Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local
Importance", arXiv:2412.08521: attention of all queries and of the last ones is joined to one score; what is
not kept but comes next is merged into the kept token of the most similar key, and into an all-zero class
where none is similar. Here the two parts are added after each is scaled to sum to one over the tokens, the
global one is a mean over the queries that saw a token, as many tokens are merged as are kept, and a merged
token weighs as its score.
"""

import torch

BLOCK = 64
LOCAL = 32  # queries
SIMILAR = 0.6  # cosine from which a token is merged


def normalised(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-8)


def importance(layer):
    """Global-Local score [G, n], without protection."""
    local = layer.attention[:, -LOCAL:].mean(1)
    local = local.view(layer.kv_heads, -1, local.shape[-1]).mean(1)
    everywhere = layer.state[..., 0]
    return local / local.sum(1, keepdim=True) + everywhere / everywhere.sum(1, keepdim=True)


class Policy:
    def observe(self, layer):
        seen = layer.length - layer.positions  # queries that saw a token, this block's included
        new = seen.clamp(max=BLOCK)
        before = torch.zeros(seen.shape) if layer.state is None else layer.state[..., 0]
        return ((before * (seen - new) + layer.received * new) / seen)[..., None]

    def score(self, layer):
        return importance(layer).masked_fill(layer.positions >= layer.length - LOCAL, torch.inf)

    def merge(self, layer, kept):
        weights = importance(layer).clamp(min=1e-12)
        places = kept.clamp(min=0)
        rows = torch.arange(layer.kv_heads)[:, None]
        left = weights.masked_fill(layer.positions < 0, -1)
        left = left.scatter(1, places, -1)  # who stays is not merged
        count = min(places.shape[1], left.shape[1])
        mass, medium = left.topk(count)
        keys, centres = layer.keys[rows, medium], layer.keys[rows, places]
        cosine = (normalised(keys) @ normalised(centres).transpose(1, 2)).masked_fill(kept[:, None] < 0, -1)
        nearest = cosine.max(-1)
        mass = torch.where((nearest.values >= SIMILAR) & (mass > 0), mass, 0.0)  # the zero class
        target = nearest.indices
        total = weights.gather(1, places)
        merged = total.scatter_add(1, target, mass)
        spread = target[..., None].expand_as(keys)
        sums = [
            (states[rows, places] * total[..., None]).scatter_add(
                1, spread, states[rows, medium] * mass[..., None]
            )
            for states in (layer.keys, layer.values)
        ]
        return sums[0] / merged[..., None], sums[1] / merged[..., None], None
