"""Uniform random: every token with the same probability, weighted by its inverse. The floor of all sampling.

Horvitz and Thompson, "A Generalization of Sampling Without Replacement From a Finite Universe", JASA 47
(1952).
"""

import torch


class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)
        sample = torch.randperm(cache.length, generator=generator)[:kept]
        indices = sample.expand(cache.heads, -1)  # [H, kept]
        return indices, torch.full(indices.shape, kept / cache.length)
