"""ZipCache: salient tokens in four bits, the others in two; salient is what those who saw it attended to.

He et al., "ZipCache: Accurate and Efficient KV Cache Quantization with Salient Token Identification",
arXiv:2405.14256: attention is summed up over the queries and divided by their number that see a token, since
plain sums favour the first tokens. 60% of the tokens are salient. The paper takes a tenth of the queries as
probes; here all of them are observed. All tokens stay there and, at a quarter of the bytes, here; where bytes
do not suffice, the least salient leave.
"""

import torch

BLOCK = 64
SALIENT = 0.6


class Policy:
    def observe(self, layer):
        seen = layer.length - layer.positions  # queries that saw a token, this block's included
        new = seen.clamp(max=BLOCK)
        before = torch.zeros(seen.shape) if layer.state is None else layer.state[..., 0]
        return ((before * (seen - new) + layer.received * new) / seen)[..., None]

    def score(self, layer):
        return layer.state[..., 0]

    def format(self, layer, budget):
        return {"tiers": [(SALIENT, 4, 4), (1 - SALIENT, 2, 2)]}
