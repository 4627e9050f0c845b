"""Vertical-slash: columns and diagonals to which the last queries of the prompt attend, for all its blocks.

Jiang et al., "MInference 1.0: Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention",
arXiv:2407.02490, the second of its patterns. The attention of the last 64 queries is summed along columns
(vertical lines) and along diagonals (slashes); the heaviest are computed. In most heads there are 1,000 lines
to 6,096 slashes, of which the first 30 tokens and the newest 100 diagonals are always taken; here the budget
is divided in this proportion, and what is always taken is half of each part at most. A slash needs a column
for each query of a block, which neighbours share. Fewer than 64 queries are looked at where they would take
more than a third of the budget.
"""

import torch

LAST = 64  # queries
LOOK = 1 / 3  # of what the budget leaves: the most that looking at them may take
FIRST = 30
NEWEST = 100
VERTICAL = 1000
SLASH = 6096


def slashes_within(order, limit, begin, rows):
    """Columns [H, begin] that the heaviest diagonals meet in a block: as many as need no more than `limit`.

    `order` [H, d] are distances between query and key, the heaviest first.
    """
    heads, distances = order.shape
    rank = torch.zeros_like(order).scatter(1, order, torch.arange(distances).expand(heads, -1))
    columns = torch.arange(begin)
    nearest, farthest = begin - columns, begin + rows - 1 - columns  # distances from a query to a column
    low, high = torch.zeros(heads, 1).long(), torch.full((heads, 1), distances + 1)
    for _ in range(12):
        middle = (low + high) // 2
        taken = torch.cat([torch.zeros(heads, 1), (rank < middle).float().cumsum(1)], 1)
        met = taken[:, (farthest + 1).clamp(max=distances)] > taken[:, nearest.clamp(max=distances)]
        fits = met.sum(1, keepdim=True) <= limit
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    taken = torch.cat([torch.zeros(heads, 1), (rank < low).float().cumsum(1)], 1)
    return taken[:, (farthest + 1).clamp(max=distances)] > taken[:, nearest.clamp(max=distances)]


class Policy:
    def observe(self, block, budget):
        count = min(LAST, block.rows, max(1, int(LOOK * (budget - block.spent) * block.prompt)))
        rows = torch.arange(block.rows - count, block.rows)
        weights = block.scores(rows).softmax(-1)  # [H, count, N]
        distance = (block.begin + rows)[:, None] - torch.arange(block.prompt)
        flat = distance.clamp(min=0).flatten().expand(block.heads, -1)
        self.slash = torch.zeros(block.heads, block.prompt).scatter_add(1, flat, weights.flatten(1))
        self.vertical = weights.sum(1)  # [H, N]

    def select(self, block, budget, generator):
        if budget >= 1:
            return torch.ones(block.heads, block.end).bool()
        kept = block.affordable(budget)
        lines = self.vertical[:, : block.begin].clone()
        count = kept * VERTICAL // (VERTICAL + SLASH)
        lines[:, : min(FIRST, count // 2)] = torch.inf
        vertical = lines.topk(count, 1).indices
        columns = torch.zeros(block.heads, block.begin).scatter(1, vertical, 1.0) > 0
        slash = self.slash.clone()
        slash[:, : min(NEWEST, (kept - count) // 2)] = torch.inf
        order = slash.argsort(dim=1, descending=True, stable=True)
        met = slashes_within(order, kept - count, block.begin, block.rows)
        columns |= met
        rest = lines.masked_fill(columns, -torch.inf).argsort(dim=1, descending=True, stable=True)
        free = kept - columns.sum(1, keepdim=True)  # what both have in common, and what no slash fits into
        more = torch.arange(block.begin) < free
        columns |= torch.zeros(block.heads, block.begin).scatter(1, rest, more.float()) > 0
        return torch.cat([columns, torch.ones(block.heads, block.rows).bool()], 1)
