"""LagKV: a token says much if it differs, channel by channel, from what comes after it.

Liang et al., "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important",
arXiv:2504.04704: tokens are cut into partitions of 128; each is scaled by least and greatest value of the
next one, and ranked in its own partition by the deviation over channels, of keys and values. Four sinks, the
last whole partition and what follows it stay. Here the last ones leave before the sinks, oldest first, where
the bytes do not hold them.
"""

import torch

SINKS = 4
LAG = 128


def deviation(states):
    """How much each token stands out in its partition [G, P - 1, LAG], states [G, P, LAG, D]."""
    low, high = states[:, 1:].amin(2, keepdim=True), states[:, 1:].amax(2, keepdim=True)
    scaled = (states[:, :-1] - low) / (high - low).clamp(min=1e-6)
    return scaled.std(-1).softmax(-1)


class Policy:
    def score(self, layer):
        heads, tokens, _ = layer.keys.shape
        scores = 1 + torch.arange(tokens).expand(heads, -1) / tokens  # above all ranks, the newest highest
        partitions = (tokens - SINKS) // LAG
        if partitions > 1:
            end = SINKS + partitions * LAG
            parts = [states[:, SINKS:end].unflatten(1, (-1, LAG)) for states in (layer.keys, layer.values)]
            both = deviation(parts[0]) + deviation(parts[1])
            ranks = both.argsort(-1).argsort(-1) / LAG
            scores = torch.cat([scores[:, :SINKS], ranks.flatten(1), scores[:, end - LAG :]], 1)
        return scores.masked_fill(layer.positions < SINKS, torch.inf)
