"""Control variates: what centroids predict for all tokens corrects what a uniform sample says of them.

Deville and Sarndal, "Calibration estimators in survey sampling", Journal of the American Statistical
Association 87 (1992): the weights of a sample are changed as little as possible so that it sums to what is
known of all tokens, here their number and their predicted attention weights. That leaves the error of what
the prediction misses, as a control variate does. The prediction is the one of Squeezed Attention (Hooper et
al., arXiv:2411.09688): the score of a token's centroid. Heavy set and sampling as in vAttention,
arXiv:2510.05688, size by the ratio rule (see ratio.py) for the spread that is left.
"""

import math

import torch

TOKENS_PER_CLUSTER = 16
ROUNDS = 3  # of k-means
SINKS = 16
WINDOW = 32
TOP = 0.05  # share of the tokens that the index finds
PILOT = 0.05  # share of the residual
LEAST = 16  # samples


def cluster(keys, count):
    """k-means on directions: keys [G, N, D] give labels [G, N] and mean keys [G, count, D]."""
    unit = keys / keys.norm(dim=-1, keepdim=True)
    centres = unit[:, torch.linspace(0, keys.shape[1] - 1, count).long()]
    for _ in range(ROUNDS):
        labels = (unit @ centres.transpose(1, 2)).argmax(-1)
        places = labels[..., None].expand_as(keys)
        centres = torch.zeros_like(centres).scatter_add(1, places, unit)
        centres = centres / centres.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    sizes = torch.zeros(keys.shape[0], count).scatter_add(1, labels, torch.ones(labels.shape))
    return labels, torch.zeros_like(centres).scatter_add(1, places, keys) / sizes[..., None].clamp(min=1)


def predicted(queries, means, labels, length):
    """Scores [G, group, length] by centroids; the newest tokens, which have none, get the highest."""
    scores = queries @ means.float().transpose(1, 2) / means.shape[2] ** 0.5
    labels = labels[..., 0].long()
    known = scores.gather(2, labels[:, None].expand(-1, scores.shape[1], -1))
    newest = known.amax(-1, keepdim=True).expand(-1, -1, length - known.shape[2])
    return torch.cat([known, newest], 2)


def quantile(probability):
    """Of the standard normal distribution, by bisection."""
    low, high = -9.0, 9.0
    for _ in range(50):
        middle = (low + high) / 2
        if math.erf(middle / 2**0.5) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return low


def calibrated(known, total, base):
    """Weights [heads, b] near `base` for which a sample sums to what is known.

    known [heads, b] of the sampled tokens; total [heads, 2]: how many tokens there are, and what they sum to.
    """
    x = torch.stack([torch.ones(known.shape), known], -1)  # [heads, b, 2]
    missing = total - base * x.sum(1)
    squares = base * (x.transpose(1, 2) @ x)  # [heads, 2, 2]
    a, b, c = squares[:, 0, 0], squares[:, 0, 1], squares[:, 1, 1] * (1 + 1e-6)
    determinant = (a * c - b * b).clamp(min=1e-12)
    first = (c * missing[:, 0] - b * missing[:, 1]) / determinant
    second = (a * missing[:, 1] - b * missing[:, 0]) / determinant
    return base * (1 + first[:, None] + second[:, None] * known)


class Policy:
    def prefill(self, keys):
        labels, means = cluster(keys, max(2, keys.shape[1] // TOKENS_PER_CLUSTER))
        self.means = Index(means.half())  # [G, C, D]
        self.labels = Index(labels[..., None].to(torch.uint8))  # [G, N, 1], one byte a token

    def select(self, query, cache, goal, generator):
        group = cache.heads // cache.kv_heads
        queries = query.view(cache.kv_heads, group, -1)
        guess = predicted(queries, self.means.read(), self.labels.read(), cache.length)
        guess = (guess - guess.amax(-1, keepdim=True)).exp()  # [G, group, N], weights
        ranking = (guess / guess.sum(-1, keepdim=True)).sum(1)
        ranking[:, :SINKS] = torch.inf
        ranking[:, -WINDOW:] = torch.inf
        order = ranking.argsort(descending=True, stable=True)
        heavy = SINKS + WINDOW + int(TOP * cache.length)
        n = cache.length - heavy
        rest = torch.stack([row[heavy:][torch.randperm(n, generator=generator)] for row in order])
        pilot = max(2, int(PILOT * n))
        left = n - pilot
        read = torch.cat([order[:, :heavy], rest[:, :pilot]], 1)
        scores = cache.scores(query, read).view(cache.kv_heads, group, -1)
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        values = cache.values(read)
        scaled = torch.cat([weights[..., :heavy], weights[..., heavy:] * (n / pilot)], -1)
        numerator, denominator = scaled @ values, scaled.sum(-1)
        if goal.quantity == "denominator":
            moved, scale = weights[..., heavy:, None], denominator
        else:
            output = numerator / denominator[..., None]
            middle = output[:, :, None] if goal.quantity == "output" else 0.0
            moved = weights[..., heavy:, None] * (values[:, None, heavy:] - middle)
            scale = numerator.norm(dim=-1)
        # what a line through the prediction leaves of the spread
        known = guess.gather(2, rest[:, None].expand(-1, group, -1))  # [G, group, n]
        x = known[..., :pilot] - known[..., :pilot].mean(-1, keepdim=True)
        y = moved - moved.mean(2, keepdim=True)
        slope = (x[..., None] * y).sum(2) / x.square().sum(-1).clamp(min=1e-12)[..., None]
        spread = (y - slope[:, :, None] * x[..., None]).square().sum((2, 3)) / max(1, pilot - 2)
        z = quantile(1 - goal.delta / 2)
        needed = ((z * left / (goal.epsilon * scale)) ** 2 * spread).amax(1)
        counts = (needed * left / (needed + left)).ceil().clamp(LEAST, left).long()
        indices = torch.full((cache.heads, heavy + n), -1)
        probability = torch.ones(cache.heads, heavy + n)
        for head in range(cache.kv_heads):
            count = int(counts[head])
            of_all = known[head, :, pilot:]
            total = torch.stack([torch.full((group,), float(left)), of_all.sum(-1)], -1)
            weight = calibrated(of_all[:, :count], total, left / count)
            rows = slice(head * group, head * group + group)
            indices[rows, : heavy + pilot] = read[head]
            indices[rows, heavy + pilot : heavy + pilot + count] = rest[head, pilot : pilot + count]
            probability[rows, heavy + pilot : heavy + pilot + count] = 1 / weight.clamp(min=1)
        return indices, probability
