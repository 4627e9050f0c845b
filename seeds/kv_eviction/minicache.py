"""MiniCache: from mid depth on, two layers share the directions of their keys and values.

Liu et al., "MiniCache: KV Cache Compression in Depth Dimension for Large Language Models", arXiv:2405.14366:
neighbouring deep layers are interpolated on the sphere, 0.6 of the way to the second one, and each keeps its
lengths. With four bits, as there, a quarter of the bytes holds all tokens; below that those leave that the
newest queries attend to least, since the paper evicts none. Pairs of very different directions, which it
stores apart, are merged here too.
"""

import torch

BITS = 4
TOWARDS = 0.6
SINKS = 4
RECENT = 32
BYTES_FOLLOWING = 4  # of a token in the second layer of a pair
BYTES_RANGES = 8  # of a token's quantised key and value


def follows(index, layers):
    """Whether a layer is the second one of a pair."""
    return index > layers // 2 and (index - layers // 2) % 2 == 1


class Policy:
    def score(self, layer):
        self.size = layer.head_size
        weights = layer.attention.mean(1)
        scores = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        fixed = (layer.positions < SINKS) | (layer.positions >= layer.length - RECENT)
        return scores.masked_fill(fixed, torch.inf)

    def allocate(self, scores, budget):
        """Bytes for as many tokens in each layer, whatever they take there."""
        row = 2 * self.size * BITS / 8 + BYTES_RANGES
        layers = len(scores)
        bytes_of_token = [BYTES_FOLLOWING if follows(index, layers) else row for index in range(layers)]
        return torch.tensor(bytes_of_token)[:, None].expand(-1, scores[0].shape[0])

    def format(self, layer, budget):
        if follows(layer.index, layer.layers):
            return {"pair": TOWARDS}
        return {"tiers": [(1.0, BITS, BITS)]}
