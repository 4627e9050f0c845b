"""How sure a difference is: paired bootstrap over contexts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evolve.streams import stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 2_000


@dataclass(frozen=True)
class Difference:
    """A difference of two scores with its 95% interval, which is unbounded for a single context."""

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "one context: no interval"
        return f"{self.low:+.4f} .. {self.high:+.4f}"


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution with so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def paired_difference(
    first: "NDArray[np.float64]",
    second: "NDArray[np.float64]",
    score_of: Callable[["NDArray[np.float64]"], float],
) -> Difference:
    """Score of `first` minus score of `second`, both samples [contexts, ...] of the same contexts.

    Contexts are resampled with replacement, the same ones for both (Efron and Tibshirani, "An Introduction
    to the Bootstrap", 1993, chapter 13); the random numbers are fixed, so that a report can be repeated.
    """
    random = stream(0, 0, "bootstrap")
    count = len(first)
    if count < 2:  # nothing to resample
        return Difference(score_of(first) - score_of(second), -math.inf, math.inf)
    differences = []
    for _ in range(RESAMPLES):
        drawn = random.integers(count, size=count)
        differences.append(score_of(first[drawn]) - score_of(second[drawn]))
    low, high = np.quantile(differences, [0.025, 0.975])
    return Difference(score_of(first) - score_of(second), float(low), float(high))


def mean_interval(values: "NDArray[np.float64]") -> Difference:
    """The mean of one value per context, with its 95% interval."""
    return paired_difference(values, np.zeros_like(values), lambda drawn: float(drawn.mean()))
