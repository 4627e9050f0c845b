"""CAKE: layers share the cache by how wide and how restless their attention is.

Qin et al., "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences", arXiv:2503.12491: a
layer's preference is the entropy of its mean attention in the observation window times the variance over it,
each to a power; tokens are ranked by mean and variance, pooled over neighbours. The paper hands bytes from
layer to layer while the prompt is read; here all layers are known at once, which comes to the same shares.
Its powers depend on the model; here both are one half.
"""

import torch

WINDOW = 32
POOL = 5
VARIANCE = 200  # gamma: how much variance counts beside the mean
ENTROPY_POWER = 0.5
VARIANCE_POWER = 0.5


class Policy:
    preferred = ()  # of the layers so far

    def score(self, layer):
        weights = layer.attention[:, -WINDOW:]  # [H, W, n]
        mean, variance = weights.mean(1), weights.var(1)
        entropy = -(mean * (mean + 1e-9).log()).sum(1).mean()
        preference = entropy.clamp(min=1e-3) ** ENTROPY_POWER
        preference = preference * variance.sum(1).mean().clamp(min=1e-6) ** VARIANCE_POWER
        self.preferred = [*self.preferred, float(preference)]
        scores = (mean + VARIANCE * variance).view(layer.kv_heads, -1, mean.shape[1]).mean(1)
        recent = layer.positions >= layer.length - WINDOW
        pooled = torch.avg_pool1d(scores.masked_fill(recent, 0), POOL, 1, POOL // 2)
        return pooled.masked_fill(recent, torch.inf)

    def allocate(self, scores, budget):
        return torch.tensor(self.preferred)[:, None].expand(-1, len(scores[0]))
