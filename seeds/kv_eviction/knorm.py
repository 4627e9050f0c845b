"""Key norm: keys of small norm draw attention, those of large norm leave.

Devoto et al., "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression", arXiv:2406.11430. The
paper leaves the first two layers whole; here all layers are treated alike, as a budget of bytes asks for.
"""


class Policy:
    def score(self, layer):
        return -layer.keys.norm(dim=-1)
