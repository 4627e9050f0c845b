"""Uniform random: blocks of columns, each as likely as any other. The floor of all sampling.

The random attention of Zaheer et al., "Big Bird: Transformers for Longer Sequences", arXiv:2007.14062,
alone.
"""

import torch

BLOCK = 16  # columns


class Policy:
    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        kept = block.affordable(budget)
        blocks = -(-block.begin // BLOCK)
        drawn = torch.rand(block.heads, blocks, generator=generator).repeat_interleave(BLOCK, 1)
        chosen = drawn[:, : block.begin].argsort(dim=1, descending=True, stable=True)[:, :kept]
        return torch.zeros(block.heads, block.end).scatter(1, chosen, 1.0) > 0
