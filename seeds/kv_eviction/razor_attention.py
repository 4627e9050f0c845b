"""RazorAttention: heads that attend to copies keep distant tokens, others a window and a mean of the rest.

Tang et al., "RazorAttention: Efficient KV Cache Compression Through Retrieval Heads", arXiv:2407.15891:
retrieval heads are those with the most attention to earlier copies of a token and to what came after these;
the others drop distant tokens, whose mean key and value stay as a compensation token that counts for all of
them. Where copies were not measured for a model, heads are told apart by the attention that the newest
queries pay to the middle. The paper keeps all tokens of 15% of the heads; here they share what is affordable.
"""

import torch

RETRIEVAL = 0.34  # of the KV heads of a layer, at least one
LONG = 3.0  # times the bytes of other heads
SINKS = 4


class Policy:
    shares = ()  # of the layers so far

    def score(self, layer):
        if "copies" in layer.learnt:
            copies = layer.learnt["copies"]
        else:
            middle = (layer.positions >= SINKS) & (layer.positions < layer.length - layer.length // 8)
            weights = layer.attention.mean(1).view(layer.kv_heads, -1, layer.positions.shape[1]).mean(1)
            copies = (weights * middle).sum(1)
        far = copies.topk(max(1, int(RETRIEVAL * len(copies)))).indices
        share = torch.ones(len(copies)).scatter(0, far, LONG)
        self.shares = [*self.shares, share]
        return layer.positions.float().masked_fill(layer.positions < SINKS, torch.inf)

    def allocate(self, scores, budget):
        return torch.stack(self.shares)

    def format(self, layer, budget):
        return {"counts": True}

    def merge(self, layer, kept):
        places = kept.clamp(min=0)
        stays = torch.zeros(layer.positions.shape).scatter_add(1, places, (kept >= 0).float()) > 0
        dropped = (~stays & (layer.positions >= 0)).float()
        number = dropped.sum(1, keepdim=True)
        rows = places[..., None].expand(-1, -1, layer.head_size)
        keys, values = layer.keys.gather(1, rows), layer.values.gather(1, rows)
        counts = torch.ones(kept.shape)
        # the oldest of the window makes place for what stands for the dropped ones
        place = (layer.positions.gather(1, places) < SINKS).sum(1).clamp(max=kept.shape[1] - 1)
        heads = torch.arange(layer.kv_heads)
        own = places[heads, place]
        number = number + 1
        dropped = dropped.scatter(1, own[:, None], 1.0)
        keys[heads, place] = (layer.keys * dropped[..., None]).sum(1) / number
        values[heads, place] = (layer.values * dropped[..., None]).sum(1) / number
        counts[heads, place] = number[:, 0]
        return keys, values, counts
