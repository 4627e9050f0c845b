"""HashEvict: keys whose hashes differ most from that of the newest query leave.

Liu et al., "HashEvict: A Pre-Attention KV Cache Eviction Strategy using Locality-Sensitive Hashing",
arXiv:2412.16187: keys and query are binarised by Gaussian projections, many fewer than channels; first and
newest tokens are protected, and the token of the greatest Hamming distance is overwritten at each step. Here
all that leave do so at once, by one query, and the distances of a group's heads are added up. Of equal
distances the newer token stays.
"""

import torch

BITS = 16
SINKS = 4
RECENT = 10


def hashes(vectors):
    """Signs of the projections [..., BITS]."""
    generator = torch.Generator().manual_seed(7)
    return vectors @ torch.randn(vectors.shape[-1], BITS, generator=generator) > 0


class Policy:
    def score(self, layer):
        query = hashes(layer.queries[:, -1]).view(layer.kv_heads, -1, 1, BITS)
        distance = (query != hashes(layer.keys)[:, None]).sum((1, 3))  # [G, n]
        scores = layer.positions / layer.length - distance
        fixed = (layer.positions < SINKS) | (layer.positions >= layer.length - RECENT)
        return scores.masked_fill(fixed, torch.inf)
