"""Oracle: keeps what the continuation and the questions are going to attend to. A bound: no policy knows it.

The mean attention of what follows the context, each branch for itself, ranks the tokens of each KV head. All
heads get the same bytes. Merging, fewer bits or other shares of the bytes may get beyond it.
"""

import torch


class Policy:
    def score(self, layer):
        if layer.future is None:  # while text is generated: as if what was attended to last went on
            heads = layer.attention.mean(1).view(layer.kv_heads, -1, layer.positions.shape[1])
            return heads.mean(1)
        scores = layer.future.sum(1)
        scores[:, 0] = torch.inf
        return scores
