"""Dense attention: every token is read, so that nothing is ever missed."""

import torch


class Policy:
    def select(self, query, cache, goal, generator):
        tokens = torch.arange(cache.length).expand(cache.heads, -1)
        return tokens, torch.ones(tokens.shape)
