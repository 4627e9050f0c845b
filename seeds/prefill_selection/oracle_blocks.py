"""Oracle blocks: blocks of columns with the largest attention, known for free. A bound, never a candidate.

What the block-sparse patterns of MInference (arXiv:2407.02490) and FlexPrefill (arXiv:2502.20766)
approximate. Every head computes equally many.
"""

import torch

BLOCK = 16


class Policy:
    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        weights = block.scores(torch.arange(block.rows)).softmax(-1).sum(1)[:, : block.begin]  # [H, begin]
        places = (torch.arange(block.begin) // BLOCK).expand(block.heads, -1)
        mass = torch.zeros(block.heads, -(-block.begin // BLOCK)).scatter_add(1, places, weights)
        ranking = mass.gather(1, places)
        chosen = ranking.argsort(dim=1, descending=True, stable=True)[:, : block.affordable(budget)]
        return torch.zeros(block.heads, block.end).scatter(1, chosen, 1.0) > 0
