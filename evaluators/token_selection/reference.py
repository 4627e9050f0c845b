"""Slow and obviously right: one head at a time, in float64, as the formulas are written."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def dense_output(
    query: "NDArray[np.float32]", keys: "NDArray[np.float32]", values: "NDArray[np.float32]"
) -> "NDArray[np.float64]":
    """Attention of one head: query [D], keys [N, D] and values [N, D] give [D]."""
    return estimate(query, keys, values, range(len(keys)), [1.0] * len(keys))


def estimate(
    query: "NDArray[np.float32]",
    keys: "NDArray[np.float32]",
    values: "NDArray[np.float32]",
    indices: Sequence[int],
    probabilities: Sequence[float],
) -> "NDArray[np.float64]":
    """The inverse-probability estimate of one head from the tokens `indices`, read with `probabilities`."""
    scores = [
        float(query.astype(np.float64) @ keys[i].astype(np.float64)) / len(query) ** 0.5 for i in indices
    ]
    largest = max(scores)
    numerator = np.zeros(values.shape[1])
    denominator = 0.0
    for i, score, probability in zip(indices, scores, probabilities, strict=True):
        weight = np.exp(score - largest) / probability
        numerator += weight * values[i].astype(np.float64)
        denominator += weight
    return numerator / denominator


def relative_error(estimate: "NDArray[np.float64]", exact: "NDArray[np.float64]") -> float:
    """`|estimate - exact| / |exact|`."""
    return float(np.linalg.norm(estimate - exact) / np.linalg.norm(exact))
