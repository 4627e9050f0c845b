"""LazyEviction: a token that was needed again after a long pause may pause for as long again.

Zhang et al., "LazyEviction: Lagged KV Eviction with Attention Pattern Observation for Efficient Long
Reasoning", arXiv:2506.15969: a token is active when its attention reaches a threshold. Remembered are its
last activity and the longest pause between two of them (maximum recurrence interval, MRI); (now - last) / MRI
says how overdue it is, the most overdue leave, and the last window always stays. Here time is counted in
blocks of 64 queries, and the threshold is a share of queries that pay more than an equal part, in place of
one weight. A token that was never needed again has an MRI below all others; of equal tokens the one of the
longer pause stays, then the newer one.
"""

import torch

BLOCK = 64
ACTIVE = 1 / 16  # of a block's queries
NEVER = 0.5  # blocks, the MRI of a token that did not recur


class Policy:
    def observe(self, layer):
        now = -(-layer.length // BLOCK)  # blocks so far
        heads, tokens, _ = layer.keys.shape
        state = torch.zeros(heads, tokens, 2) if layer.state is None else layer.state
        last, pause = state[..., 0], state[..., 1]
        last = torch.where(last == 0, now, last)  # a new token
        active = layer.frequent >= ACTIVE
        pause = torch.where(active, torch.maximum(pause, now - last), pause)
        return torch.stack([torch.where(active, now, last), pause], -1)

    def score(self, layer):
        last, pause = layer.state[..., 0], layer.state[..., 1]
        overdue = (-(-layer.length // BLOCK) - last) / pause.clamp(min=NEVER)
        tie = (pause + layer.positions / layer.length) * 1e-4
        return (tie - overdue).masked_fill(layer.positions >= layer.length - BLOCK, torch.inf)
