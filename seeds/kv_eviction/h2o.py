"""H2O: heavy hitters, by all attention that a token has received, beside the newest tokens.

Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
arXiv:2306.14048: attention is summed up over all queries, and half of the budget goes to the heaviest tokens,
half to the newest. The share of the newest is counted here in tokens of the cache.
"""

import torch

BLOCK = 64
RECENT = 1 / 16  # of the tokens so far: half of a budget of an eighth


class Policy:
    def observe(self, layer):
        # the mean is over the queries that see a token, the sum over all of them
        seeing = (layer.length - layer.positions).clamp(max=BLOCK)
        before = 0.0 if layer.state is None else layer.state[..., 0]
        return (before + layer.received * seeing)[..., None]

    def score(self, layer):
        recent = layer.positions >= layer.length - int(RECENT * layer.length)
        return layer.state[..., 0].masked_fill(recent, torch.inf)
