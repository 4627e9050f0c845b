"""Oracle columns: the single columns with the largest attention, known for free. A bound, never a candidate.

What AnchorAttention (arXiv:2505.23520) approximates by stripes. Every head computes equally many.
"""

import torch


class Policy:
    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        weights = block.scores(torch.arange(block.rows)).softmax(-1).sum(1)[:, : block.begin]  # [H, begin]
        chosen = weights.topk(block.affordable(budget), 1).indices
        return torch.zeros(block.heads, block.end).scatter(1, chosen, 1.0) > 0
