"""TOVA: the token that the newest query attends to least leaves, whichever it is.

Oren et al., "Transformers are Multi-State RNNs", arXiv:2401.06104: attention of the newest query, averaged
over all heads of the layer, so that they keep the same tokens.
"""


class Policy:
    def score(self, layer):
        weights = layer.attention[:, -1]  # [H, n]
        return weights.mean(0).expand(layer.kv_heads, -1).clone()
