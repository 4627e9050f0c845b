"""CompressKV: only heads that retrieve vote on what stays, and layers share by what eviction costs them.

Lin et al., "CompressKV: Semantic Retrieval Heads Know What Tokens are Not Important Before Generation",
arXiv:2508.02401: streaming heads look at first and newest tokens, and drown those that find what matters in
the middle. The paper finds its semantic retrieval heads on question answering data; here they are the heads
whose window attends most to the middle of the context. Layers get bytes in proportion to the error that
eviction leaves in the attention output; here in that of the newest query, with a quarter of the tokens.
"""

import torch

WINDOW = 64
POOL = 5
SINKS = 4
VOTERS = 4  # heads of a layer
TRIED = 0.25


def eviction_error(layer, scores):
    """Relative error of the output of the newest query without the tokens of low scores."""
    kept = scores.topk(max(1, int(TRIED * scores.shape[1])), 1).indices
    stays = torch.zeros(scores.shape).scatter(1, kept, 1.0)
    weights = layer.attention[:, -1].view(layer.kv_heads, -1, scores.shape[1])
    left = weights * stays[:, None]
    left = left / left.sum(-1, keepdim=True).clamp(min=1e-9)
    exact = weights @ layer.values
    return float((left @ layer.values - exact).norm() / exact.norm().clamp(min=1e-9))


class Policy:
    errors = ()  # of the layers so far

    def score(self, layer):
        weights = layer.attention[:, -WINDOW:].mean(1)  # [H, n]
        recent = layer.positions >= layer.length - WINDOW
        middle = ~(recent | (layer.positions < SINKS))
        distant = (weights * middle.repeat_interleave(layer.heads // layer.kv_heads, 0)).sum(1)
        voters = distant.topk(min(VOTERS, layer.heads)).indices
        votes = weights[voters].mean(0).expand(layer.kv_heads, -1)
        pooled = torch.avg_pool1d(votes.masked_fill(recent, 0), POOL, 1, POOL // 2)
        scores = pooled.masked_fill(recent, torch.inf)
        self.errors = [*self.errors, eviction_error(layer, scores) + 1e-3]
        return scores

    def allocate(self, scores, budget):
        return torch.tensor(self.errors)[:, None].expand(-1, len(scores[0]))
