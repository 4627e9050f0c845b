"""FlexPrefill: each head computes the fewest blocks or lines that together reach a share of its attention.

Lai et al., "FlexPrefill: A Context-Aware Sparse Attention Mechanism for Efficient Long-Sequence Inference",
arXiv:2502.20766. For the last queries of the prompt, attention is estimated from means of queries and of
keys, and compared with what it is: where the root of the Jensen-Shannon divergence is below a threshold
(0.1), a head goes by the estimated blocks of each query block, else by the vertical lines and slashes of the
last queries. There the share is a constant (0.9), every head computes 1,024 columns at least, and a block has
128 keys; here the share is the largest one, the same for all heads, that the budget carries, so that flat
heads compute more, the least are a quarter of what an even share would be, and a block has 16. Fewer than 64
queries are looked at where they would take more than a third of the budget.
"""

import torch

LAST = 64  # queries
LOOK = 1 / 3
BLOCK = 16
ALIKE = 0.1  # root of the divergence below which the estimate is believed
FIRST = 4
LEAST = 0.25  # of an even share of the columns, for each head
HALVINGS = 20


def divergence(one, other):
    """Jensen-Shannon divergence of distributions [..., n], in nats."""
    middle = (one + other) / 2
    parts = [p * ((p + 1e-9) / (middle + 1e-9)).log() for p in (one, other)]
    return (parts[0] + parts[1]).sum(-1) / 2


class Policy:
    def observe(self, block, budget):
        count = min(LAST, block.rows, max(1, int(LOOK * (budget - block.spent) * block.prompt)))
        rows = torch.arange(block.rows - count, block.rows)
        weights = block.scores(rows).softmax(-1)  # [H, count, N]
        blocks = -(-block.prompt // BLOCK)
        places = (torch.arange(block.prompt) // BLOCK).expand(block.heads, -1)
        true = torch.zeros(block.heads, blocks).scatter_add(1, places, weights.mean(1))
        self.aware = divergence(true, block.mean_scores(BLOCK).softmax(-1)).sqrt() < ALIKE  # [H]
        distance = (block.begin + rows)[:, None] - torch.arange(block.prompt)
        flat = distance.clamp(min=0).flatten().expand(block.heads, -1)
        self.slash = torch.zeros(block.heads, block.prompt).scatter_add(1, flat, weights.flatten(1)) / count
        self.vertical = weights.mean(1)  # [H, N]

    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        # a column meets each slash in one query of the block: the mean of their weights is its share of them
        sums = torch.cat([torch.zeros(block.heads, 1), self.slash.cumsum(1)], 1)
        nearest = (block.begin - torch.arange(block.end)).clamp(min=0)
        farthest = (block.end - torch.arange(block.end)).clamp(max=block.prompt)
        slashes = (sums[:, farthest] - sums[:, nearest]) / block.rows
        shares = (self.vertical[:, : block.end] + slashes) / 2  # [H, end]
        if self.aware.any():
            estimate = block.mean_scores(BLOCK).softmax(-1) / BLOCK
            estimate = estimate.repeat_interleave(BLOCK, 1)[:, : block.end]
            shares = torch.where(self.aware[:, None], estimate, shares)
        own, shares = shares[:, block.begin :].sum(1, keepdim=True), shares[:, : block.begin]
        ranking = shares.clone()
        ranking[:, :FIRST] = torch.inf
        order = ranking.argsort(dim=1, descending=True, stable=True)
        mass = shares.gather(1, order)
        before = own + mass.cumsum(1) - mass  # what its own and the heavier columns reach together
        before[:, : max(FIRST, int(LEAST * block.affordable(budget)))] = 0.0
        total = block.heads * block.affordable(budget)
        low, high = 0.0, float(before.amax()) + 1
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if int((before < middle).sum()) <= total:
                low = middle
            else:
                high = middle
        columns = torch.zeros(block.heads, block.begin).scatter(1, order, (before < low).float()) > 0
        return torch.cat([columns, torch.ones(block.heads, block.rows).bool()], 1)
