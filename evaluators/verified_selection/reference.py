"""Slow and obviously right: one head at a time, in float64, as the formulas are written."""

from collections.abc import Sequence
from math import comb
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


def parts(
    query: "Vector", keys: "Vector", values: "Vector", indices: Sequence[int], probabilities: Sequence[float]
) -> dict[str, "NDArray[np.float64]"]:
    """Numerator [D], denominator [1] and output [D] of one head from the tokens `indices`, read with
    `probabilities`; keys and values [N, D].
    """
    numerator, denominator = np.zeros(values.shape[1]), np.zeros(1)
    for i, probability in zip(indices, probabilities, strict=True):
        weight = np.exp(float(query.astype(np.float64) @ keys[i].astype(np.float64)) / len(query) ** 0.5)
        numerator += weight / probability * values[i].astype(np.float64)
        denominator += weight / probability
    return {"numerator": numerator, "denominator": denominator, "output": numerator / denominator}


def upper_bound(violations: int, trials: int) -> float:
    """The rate at which so few violations, or fewer, have a probability of 5%: found by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        few = sum(comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(violations + 1))
        if few > 0.05:
            low = rate
        else:
            high = rate
    return high
