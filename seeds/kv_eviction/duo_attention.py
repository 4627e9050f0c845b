"""DuoAttention: retrieval heads keep what is affordable, streaming heads sinks and a short window.

Xiao et al., "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
arXiv:2410.10819: a gate for each KV head is learnt from what the output loses with a window only, against a
price for an open gate; for gates a in [0, 1] and the loss (1 - a)^2 loss + price a the best is 1 - price /
(2 loss). Retrieval heads keep all tokens there; here their bytes, in proportion to the gates, buy longer
windows. For a model of which nothing was learnt, the loss is the attention that the newest queries pay to
what lies between sinks and window.
"""

import torch

PRICE = 0.05
LEAST = 0.2  # of an equal share, which a head without a gate gets, too
SINKS = 4
WINDOW = 256


class Policy:
    gates = ()  # of the layers so far

    def score(self, layer):
        if "loss" in layer.learnt:
            loss = layer.learnt["loss"]
        else:
            middle = (layer.positions >= SINKS) & (layer.positions < layer.length - WINDOW)
            weights = layer.attention.mean(1).view(layer.kv_heads, -1, layer.positions.shape[1]).mean(1)
            loss = (weights * middle).sum(1)
        gates = (1 - PRICE / (2 * loss.clamp(min=1e-4))).clamp(min=0)
        self.gates = [*self.gates, gates]
        return layer.positions.float().masked_fill(layer.positions < SINKS, torch.inf)

    def allocate(self, scores, budget):
        gates = torch.stack(self.gates) + 1e-3
        return LEAST + (1 - LEAST) * gates / gates.mean()
