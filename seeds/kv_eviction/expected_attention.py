"""Expected Attention: what future queries will pay to a token, if they are distributed as those so far.

Devoto et al., "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries
Distribution", arXiv:2510.00636: for Gaussian queries of mean m and covariance C the expected weight is
exp(m.k / sqrt(D) + k'Ck / 2D), normalised over the tokens and multiplied by the norm of the value; the
moments are those at the next 512 positions. Four sinks stay, and are left out of the normalisation. The paper
lets heads share a layer's budget in addition; here all heads keep as many.
"""

import torch

SINKS = 4
LEAST = -1e30  # of a logarithm: no weight at all


class Policy:
    def score(self, layer):
        size = layer.head_size
        group = layer.heads // layer.kv_heads
        mean = layer.query_mean.view(layer.kv_heads, group, size)
        covariance = layer.query_covariance.view(layer.kv_heads, group, size, size)
        keys = layer.keys[:, None]  # [G, 1, n, D]
        spread = ((keys @ covariance) * keys).sum(-1)  # [G, H / G, n]
        logits = mean @ layer.keys.transpose(1, 2) / size**0.5 + spread / (2 * size)
        fixed = layer.positions < SINKS  # and what is no token
        weights = logits.masked_fill(fixed[:, None], LEAST).softmax(-1).mean(1)
        return (weights * layer.values.norm(dim=-1)).masked_fill(fixed, torch.inf)
