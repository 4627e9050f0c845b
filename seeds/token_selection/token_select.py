"""TokenSelect: all heads vote on one list of tokens, and a list serves as long as the query stays alike.

Wu et al., "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic
Token-Level KV Cache Selection", arXiv:2411.02886: the soft vote of a head is its softmax of q k; the sum of
the votes ranks tokens; while the cosine of the query with that of the last choice is above a threshold, the
choice is reused. The published kernel reads every key for it. Here four bits of each of the eight channels
that weigh most in the prompt stand for a key.
"""

import torch

CHANNELS = 8
BITS = 4  # CHANNELS * BITS fill one int32 per token
ALIKE = 0.9  # cosine from which on a choice is reused
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
        self.last = torch.zeros(queries.shape[0], keys.shape[2]).half()
        self.voted = torch.zeros(0, dtype=torch.int16)

    def append(self, keys):
        self.labels.append(labelled(chosen(keys, self.channels), self.low, self.step))

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        last = self.last.float()
        if float((query * last).sum()) < ALIKE * float(query.norm() * last.norm()) or not last.any():
            codes = (self.labels.read() >> (BITS * torch.arange(CHANNELS))) & (2**BITS - 1)  # [G, N, C]
            labels = codes * self.step[:, None].float() + self.low[:, None].float()
            queries = chosen(query.view(cache.kv_heads, group, -1), self.channels)
            votes = (queries @ labels.transpose(1, 2) / cache.head_size**0.5).softmax(-1).sum((0, 1))  # [N]
            votes[:SINKS] = torch.inf
            votes[-WINDOW:] = torch.inf
            self.voted = votes.topk(cache.affordable(budget)).indices.to(torch.int16)
            self.last = query.half()
        kept = cache.affordable(budget)
        recent = torch.arange(cache.length - min(WINDOW, kept // 2), cache.length)
        older = self.voted.long()
        tokens = torch.cat([recent, older[older < recent[0]][: kept - len(recent)]])
        indices = tokens.expand(cache.heads, -1)
        return indices, torch.ones(indices.shape)
