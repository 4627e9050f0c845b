"""Chelsea: similar keys of a chunk become one centroid that counts for all of them.

Hu et al., "Efficient Long-Context LLM Inference via KV Cache Clustering", arXiv:2506.11418: in each chunk,
tokens are divided alternately in two sets, each of the first is matched with the most similar key of the
second, and the most similar pairs are merged into their mean. Here the matching is repeated among those that
are left, until the budget holds them: a round halves a chunk, later rounds leave later, and within a round
the most similar. Pairs are found by the keys of the tokens in place of centroids. First and newest tokens
stay as they are.
"""

import torch

CHUNK = 64
ROUNDS = 5  # 32 tokens of a chunk in one
SINKS = 4
RECENT = 32


def normalised(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-8)


def protected(layer):
    return (layer.positions < SINKS) | (layer.positions >= layer.length - RECENT)


class Policy:
    def score(self, layer):
        heads, tokens, size = layer.keys.shape
        chunks = -(-tokens // CHUNK)
        padding = torch.zeros(heads, chunks * CHUNK - tokens, size)
        keys = normalised(torch.cat([layer.keys, padding], 1)).view(heads, chunks, CHUNK, size)
        rounds = torch.full((heads, chunks, CHUNK), float(ROUNDS))
        for turn in range(ROUNDS):
            left = torch.arange(2**turn, CHUNK, 2 ** (turn + 1))
            stay = torch.arange(0, CHUNK, 2 ** (turn + 1))
            nearest = (keys[:, :, left] @ keys[:, :, stay].transpose(2, 3)).amax(-1)  # [G, chunks, left]
            rounds[:, :, left] = turn + (1 - nearest) / 4  # within (turn, turn + 1)
        scores = rounds.flatten(1)[:, :tokens]
        return scores.masked_fill(protected(layer), torch.inf)

    def format(self, layer, budget):
        return {"counts": True}

    def merge(self, layer, kept):
        heads, tokens, _ = layer.keys.shape
        places = kept.clamp(min=0)
        rows = torch.arange(heads)[:, None]
        centres = layer.keys[rows, places]
        cosine = normalised(layer.keys) @ normalised(centres).transpose(1, 2)  # [G, n, K]
        fixed = protected(layer)
        closed = (kept < 0) | fixed.gather(1, places)
        apart = torch.arange(tokens)[:, None] // CHUNK != places[:, None] // CHUNK
        nearest = cosine.masked_fill(closed[:, None] | apart, -2).max(-1)
        stays = torch.zeros(heads, tokens).scatter_add(1, places, (kept >= 0).float()) > 0
        # where nobody of a chunk stays, nobody is merged
        moves = (~stays & ~fixed & (nearest.values >= -1)).float()
        target = nearest.indices
        counts = torch.ones(places.shape).scatter_add(1, target, moves)
        spread = target[..., None].expand_as(layer.keys)
        sums = [
            states[rows, places].scatter_add(1, spread, states * moves[..., None])
            for states in (layer.keys, layer.values)
        ]
        return sums[0] / counts[..., None], sums[1] / counts[..., None], counts
