"""KeyDiff: keys that point where all keys point leave, distinct ones stay.

Park et al., "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-
Constrained Environments", arXiv:2504.15364: the score is the negative cosine of a key to the mean of the
normalised keys. The paper evicts block by block while it reads; here once for all tokens.
"""


def normalised(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-8)


class Policy:
    def score(self, layer):
        keys = normalised(layer.keys)
        anchor = normalised(keys.mean(1, keepdim=True))
        return -(keys * anchor).sum(-1)
