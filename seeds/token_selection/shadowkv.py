"""ShadowKV: landmarks in the low-rank space of the keys choose chunks; outlier chunks are always read.

Sun et al., "ShadowKV: KV Cache in Shadows for High-Throughput Long-Context LLM Inference", arXiv:2410.21465:
keys are low-rank; a landmark is the mean key of a chunk of eight; chunks whose keys differ most from their
landmark stay exact. The published landmarks are full keys and cost a sixteenth of what dense attention reads.
Here they have their principal components only, with one byte each.
"""

import torch

CHUNK = 8
RANK = 16
ROUNDS = 4  # of the subspace iteration
OUTLIERS = 2  # chunks


def principal(keys):
    """An orthonormal basis [G, D, RANK] of the directions in which centred keys [G, N, D] vary the most."""
    spread = keys.transpose(1, 2) @ keys
    basis = spread[:, :, :RANK]
    for _ in range(ROUNDS):
        columns = []
        for column in (spread @ basis).unbind(2):
            left = column
            for other in columns:
                left = left - (left * other).sum(1, keepdim=True) * other
            columns.append(left / left.norm(dim=1, keepdim=True).clamp(min=1e-6))
        basis = torch.stack(columns, 2)
    return basis


def rounded(marks, scale):
    """Landmarks [G, n, ...] as one byte a component."""
    return (marks / scale.float()).round().clamp(-128, 127).to(torch.int8)


class Policy:
    def prefill(self, keys):
        self.centre = keys.mean(1, keepdim=True).half()  # [G, 1, D]
        self.basis = principal(keys - self.centre.float()).half()
        chunks = keys.shape[1] // CHUNK
        inside = keys[:, : chunks * CHUNK].unflatten(1, (chunks, CHUNK))
        marks = (inside.mean(2) - self.centre.float()) @ self.basis.float()
        self.scale = (marks.abs().amax(1, keepdim=True) / 120).half()  # [G, 1, RANK]
        self.marks = Index(rounded(marks, self.scale))  # [G, chunks, RANK]
        middle = inside.mean(2, keepdim=True)
        alike = (inside * middle).sum(-1) / (inside.norm(dim=-1) * middle.norm(dim=-1))
        alike = alike.amin(-1)  # [G, chunks], of the cosines
        self.outliers = alike.topk(OUTLIERS, largest=False).indices.to(torch.int16)
        tail = keys[:, chunks * CHUNK :]
        self.sum = (tail.sum(1) + torch.zeros_like(keys[:, 0])).half()  # of the open chunk
        self.open = tail.shape[1]

    def append(self, keys):
        self.sum = self.sum + keys[:, 0].half()
        self.open += 1
        if self.open == CHUNK:
            mark = (self.sum[:, None].float() / CHUNK - self.centre.float()) @ self.basis.float()
            self.marks.append(rounded(mark, self.scale))
            self.sum = torch.zeros_like(self.sum)
            self.open = 0

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        marks = self.marks.read() * self.scale.float()
        queries = query.view(cache.kv_heads, group, -1) @ self.basis.float()
        ranking = (queries @ marks.transpose(1, 2) / cache.head_size**0.5).softmax(-1).sum(1)  # [G, chunks]
        ranking = ranking.scatter(1, self.outliers.long(), torch.inf)
        ranking[:, 0] = torch.inf  # the sinks
        kept = cache.affordable(budget)
        recent = min(kept, self.open + CHUNK)
        older = (cache.length - recent) // CHUNK
        chunks = ranking[:, :older].topk(min((kept - recent) // CHUNK, older)).indices
        tokens = (chunks[:, :, None] * CHUNK + torch.arange(CHUNK)).flatten(1)
        newest = torch.arange(cache.length - recent, cache.length).expand(cache.kv_heads, -1)
        tokens = torch.cat([tokens, newest], 1).repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
