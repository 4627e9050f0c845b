"""Random eviction: every token has the same chance to stay. The floor of every comparison."""

import torch


class Policy:
    def score(self, layer):
        generator = torch.Generator().manual_seed(7 + layer.index)
        return torch.rand(layer.positions.shape, generator=generator)
