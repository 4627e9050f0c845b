"""Recent window: the columns right before the block and nothing else. The floor of all recency.

Beltagy et al., "Longformer: The Long-Document Transformer", arXiv:2004.05150, sliding-window attention.
"""

import torch


class Policy:
    def select(self, block, budget, generator):
        kept = min(block.begin, block.affordable(budget))
        columns = torch.zeros(block.heads, block.end).bool()
        columns[:, block.begin - kept :] = True
        return columns
