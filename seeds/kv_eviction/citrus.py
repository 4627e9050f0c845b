"""CItruS: what the instruction attends to decides, and it is asked again for each chunk of the context.

Bai et al., "CItruS: Chunked Instruction-aware State Eviction for Long Sequence Modeling", arXiv:2406.12018:
the instruction is put behind each chunk, and its attention averaged over its tokens decides which states of
the chunk stay, so that what later chunks do not use is not lost. Here the newest queries stand for the
instruction, and their attention inside each chunk is normalised, so that every chunk keeps its share.
"""

import torch

CHUNK = 256
WINDOW = 32
SINKS = 4


class Policy:
    def score(self, layer):
        weights = layer.attention[:, -WINDOW:].mean(1)
        weights = weights.view(layer.kv_heads, -1, weights.shape[1]).mean(1)
        known = (layer.positions >= layer.length - WINDOW) | (layer.positions < SINKS)
        chunks = (layer.positions // CHUNK).clamp(min=0)
        count = int(chunks.max()) + 1
        sums = torch.zeros(layer.kv_heads, count).scatter_add(1, chunks, weights.masked_fill(known, 0))
        share = weights / sums.gather(1, chunks).clamp(min=1e-9)
        return share.masked_fill(known, torch.inf)
