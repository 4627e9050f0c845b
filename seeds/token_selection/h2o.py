"""H2O: half of the tokens are the newest, half those with the most attention since the beginning.

Zhang et al., "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
arXiv:2306.14048: attention is summed up for each token; who has the least leaves when a token comes, and does
not come back. As a selector nothing has to be evicted, but only what is kept is looked at, and only its sums
grow. The sums of the prompt are means over the queries that could see a token, so that early tokens have no
advantage.
"""

import torch


class Policy:
    def observe(self, queries, positions, keys):
        count, size = queries.shape[1:]
        scores = queries.view(keys.shape[0], -1, size) @ keys.transpose(1, 2) / size**0.5
        scores = scores.unflatten(1, (-1, count))  # [G, group, P, N]
        visible = torch.arange(keys.shape[1]) <= positions[:, None]  # [P, N]
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        mass = weights.sum((1, 2)) / visible.sum(0).clamp(min=1)  # [G, N], each for a query
        order = mass.argsort(descending=True, stable=True)
        self.heavy = Index(order[..., None].to(torch.int16))
        self.masses = Index(mass.gather(1, order)[..., None].half())
        self.looks = count  # how many queries a mass is the mean of
        self.seen = keys.shape[1]
        self.kept = torch.zeros(keys.shape[0], 0, dtype=torch.int16)
        self.mass = torch.zeros(keys.shape[0], 0).half()

    def select(self, query, cache, budget, generator):
        group = cache.heads // cache.kv_heads
        if cache.affordable(budget) >= cache.length:
            tokens = torch.arange(cache.length).expand(cache.heads, -1)
            return tokens, torch.ones(tokens.shape)
        row = 4 * cache.head_size  # bytes of a token; its number and its mass take four more
        if self.kept.shape[1] == 0:
            count = cache.affordable(budget) * row // (row + 4)
            first = torch.arange(min(count, self.heavy.length)).expand(cache.kv_heads, -1)
            older, mass = self.heavy.gather(first)[..., 0].long(), self.masses.gather(first)[..., 0].float()
        else:
            count = cache.affordable(budget)
            older, mass = self.kept.long(), self.mass.float()
        recent = torch.arange(cache.length - count // 2, cache.length).expand(cache.kv_heads, -1)
        # a token of the window that was kept before goes on with its mass, another one begins with none
        same = recent[:, :, None] == older[:, None]  # [G, recent, older]
        of_recent = (same * mass[:, None]).sum(-1)
        ranked = mass.masked_fill(older >= recent[:, :1], -1)
        heavy = ranked.topk(min(count - count // 2, older.shape[1])).indices
        heavy = heavy[:, : int((ranked.gather(1, heavy) >= 0).sum(1).min())]
        tokens = torch.cat([older.gather(1, heavy), recent], 1)
        mass = torch.cat([mass.gather(1, heavy), of_recent], 1)
        weights = cache.scores(query, tokens).softmax(-1).view(cache.kv_heads, group, -1).sum(1)
        self.mass = ((mass * self.looks + weights) / (self.looks + 1)).half()
        self.kept = tokens.to(torch.int16)
        self.looks += 1
        tokens = tokens.repeat_interleave(group, 0)
        return tokens, torch.ones(tokens.shape)
