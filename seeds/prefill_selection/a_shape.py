"""A-shape: the first tokens and a window of recent ones, in all heads.

Jiang et al., "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
arXiv:2407.02490, the first of its three patterns, which is StreamingLLM (arXiv:2309.17453) in the prefill.
There it has 1,024 first tokens and a window of 4,096; here both shrink to the budget in this proportion.
"""

import torch

FIRST = 1024
RECENT = 4096


class Policy:
    def select(self, block, budget, generator):
        kept = block.affordable(budget)
        first = kept * FIRST // (FIRST + RECENT)
        columns = torch.zeros(block.heads, block.end).bool()
        columns[:, :first] = True
        columns[:, max(0, block.begin - (kept - first)) :] = True
        return columns
