"""StreamingLLM: the first tokens, on which attention rests, and the newest ones.

Xiao et al., "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453: four sinks and a
window. The paper numbers the positions inside the cache anew; here keys keep their rotation.
"""

import torch

SINKS = 4


class Policy:
    def score(self, layer):
        return layer.positions.float().masked_fill(layer.positions < SINKS, torch.inf)
