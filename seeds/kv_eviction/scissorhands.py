"""Scissorhands: what fell below average most often is unimportant for good; the newest tokens stay.

Liu et al., "Scissorhands: Exploiting the Persistence of Importance Hypothesis for LLM KV Cache Compression at
Test Time", arXiv:2305.17118: in a window of 400 queries it is counted how often each token got less than an
equal share of the attention; those with the highest counts leave, the ten newest stay. Here the window is
that of the last blocks, older ones fading out.
"""

import torch

HISTORY = 400 / 64  # blocks
RECENT = 10


class Policy:
    def observe(self, layer):
        before = layer.frequent if layer.state is None else layer.state[..., 0]
        new = (layer.length - layer.positions) <= 64  # tokens that nobody has seen before this block
        return torch.where(new, layer.frequent, before + (layer.frequent - before) / HISTORY)[..., None]

    def score(self, layer):
        recent = layer.positions >= layer.length - RECENT
        tie = layer.positions / layer.length * 1e-4
        return (layer.state[..., 0] + tie).masked_fill(recent, torch.inf)
