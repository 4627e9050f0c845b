"""Block-sparse: the blocks of keys whose mean is closest to the mean query, as many in every head.

Jiang et al., "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
arXiv:2407.02490, the third of its patterns. There a block has 64 keys of a context that is 60 times longer;
here it has 16, so that a small budget holds several. The last block is taken as far as the budget goes.
"""

import torch

BLOCK = 16  # keys


class Policy:
    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        estimate = block.mean_scores(BLOCK)  # [H, blocks]
        kept = block.affordable(budget)
        ranking = estimate.repeat_interleave(BLOCK, 1)[:, : block.begin]
        chosen = ranking.argsort(dim=1, descending=True, stable=True)[:, :kept]
        return torch.zeros(block.heads, block.end).scatter(1, chosen, 1.0) > 0
