"""AnchorAttention: columns whose score comes close to that of the first and the nearest tokens.

Zhang et al., "AnchorAttention: Difference-Aware Sparse Attention with Stripe Granularity", arXiv:2505.23520.
The largest score of each query with the first tokens and with those of its window is the anchor; scores of
the mean query of a block with single keys are compared with the mean anchor, and stripes, columns of one key
each, are computed where they are within a difference of it. What the anchor takes is computed anyway. There
the difference is a constant, and first tokens and window have a block each; here it is the largest one, the
same for all heads, that the budget carries, and the first tokens shrink to it.
"""

import torch

FIRST = 64  # tokens, a block; the window is the block of the queries itself
SHARE = 0.25  # of a small budget that they may take


def within(differences, count):
    """Whether each of the differences [H, n] is among the `count` smallest of all heads."""
    if count <= 0:
        return torch.zeros(differences.shape).bool()
    return differences <= differences.flatten().kthvalue(min(count, differences.numel())).values


class Policy:
    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        first = torch.arange(min(FIRST, block.begin, int(SHARE * block.affordable(budget))))
        window = torch.arange(block.begin, block.end)
        anchor = block.compute(torch.cat([first, window])).amax(-1).mean(-1, keepdim=True)  # [H, 1]
        differences = (anchor - block.mean_scores())[:, : block.begin]
        differences[:, : len(first)] = torch.inf
        count = block.heads * block.affordable(budget)
        columns = torch.ones(block.heads, block.end).bool()
        columns[:, : block.begin] = within(differences, count)
        columns[:, : len(first)] = True
        return columns
