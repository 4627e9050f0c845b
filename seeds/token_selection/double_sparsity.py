"""Double Sparsity: scores are estimated from a label cache, the few channels of each key that matter most.

Yang et al., "Post-Training Sparse Attention with Double Sparsity", arXiv:2408.07092. The published channels
are calibrated offline; here they come from the queries of the prompt, by the mean of |q k| of a channel over
all pairs. Labels have four bits, as there.
"""

import torch

CHANNELS = 8
BITS = 4  # CHANNELS * BITS fill one int32 per token
SINKS = 4
WINDOW = 16


def chosen(vectors, channels):
    """The channels [G, C] of vectors [G, n, D] as [G, n, C]."""
    return vectors.gather(2, channels.long()[:, None].expand(-1, vectors.shape[1], -1))


def labelled(values, low, step):
    """Four bits for each of the channels [G, n, C], all of them as one int32 [G, n, 1]."""
    codes = ((values - low[:, None].float()) / step[:, None].float()).round()
    codes = codes.clamp(0, 2**BITS - 1).long()
    return (codes << (BITS * torch.arange(CHANNELS))).sum(-1, keepdim=True).to(torch.int32)


class Policy:
    def observe(self, queries, positions, keys):
        grouped = queries.view(keys.shape[0], -1, keys.shape[2])
        weight = grouped.abs().mean(1) * keys.abs().mean(1)  # [G, D]
        self.channels = weight.topk(CHANNELS).indices.to(torch.int16)  # [G, C]
        values = chosen(keys, self.channels)
        usual = values[:, SINKS:]  # the sinks are read anyway, and far from all others
        self.low = usual.amin(1).half()
        self.step = ((usual.amax(1) - usual.amin(1)) / (2**BITS - 1)).clamp(min=1e-3).half()
        self.labels = Index(labelled(values, self.low, self.step))

    def append(self, keys):
        self.labels.append(labelled(chosen(keys, self.channels), self.low, self.step))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        codes = (self.labels.read() >> (BITS * torch.arange(CHANNELS))) & (2**BITS - 1)  # [G, N, C]
        labels = codes * self.step[:, None].float() + self.low[:, None].float()
        queries = chosen(query.view(cache.kv_heads, group, -1), self.channels)
        weights = (queries @ labels.transpose(1, 2) / cache.head_size**0.5).softmax(-1)
        ranking = weights.sum(1)  # [G, N]
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        tokens = ranking.topk(cache.affordable(budget)).indices.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
