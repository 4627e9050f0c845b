"""Slow and obviously right: bytes of a head, and attention to what is left of it."""

import math
from collections.abc import Sequence

from evaluators.kv_eviction.storage import Format


def head_bytes(form: Format, tokens: int, size: int, state: int) -> float:
    """Bytes of a head of `size` channels with so many tokens, number by number."""
    channels = max(1, round(form.key_channels * size))
    total = 0.0
    if channels < size:
        total += size / 8  # which channels are there
    ends = [round(sum(tier.share for tier in form.tiers[: n + 1]) * tokens) for n in range(len(form.tiers))]
    ends[-1] = tokens
    for tier in form.tiers:
        for bits, width in ((tier.key_bits, channels), (tier.value_bits, size)):
            if bits < 16:
                total += 2 * width  # what each channel of the tier is divided by
                total += 2 * form.rank * width
    for token in range(tokens):
        tier = form.tiers[next(n for n, end in enumerate(ends) if token < end)]
        vectors = ((tier.key_bits, channels, form.key_density), (tier.value_bits, size, form.value_density))
        for bits, width, density in vectors:
            if bits == 16 and density == 1:
                total += 2 * width
            elif bits == 16:
                total += 2 * max(1, round(density * width)) + width / 8  # and which numbers they are
            else:
                total += width * bits / 8 + 2 + 2  # lowest value and step
                total += 4 * round(form.outliers * width)  # value and place
                total += 2 * form.rank
        total += 2 * form.counts + 2 * state
    return total


def attention(
    query: Sequence[float],
    keys: Sequence[Sequence[float]],
    values: Sequence[Sequence[float]],
    counts: Sequence[float],
) -> list[float]:
    """The output [D] of one query, where each token stands for so many."""
    scores = [sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query)) for key in keys]
    weights = [count * math.exp(score - max(scores)) for score, count in zip(scores, counts, strict=True)]
    return [
        sum(weight * value[channel] for weight, value in zip(weights, values, strict=True)) / sum(weights)
        for channel in range(len(values[0]))
    ]
