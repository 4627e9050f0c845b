"""Is a guarantee kept? Violations are counted, and bounded exactly."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95


def upper_bound(violations: "ArrayLike", trials: "ArrayLike") -> "NDArray[np.float64]":
    """The rate that is exceeded with a confidence of 5% only, given so many violations in so many trials.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 26 (1934): the rate at which so few violations, or fewer, have a probability of 5%. Exact for
    independent trials.
    """
    from scipy.special import betaincinv

    found, of = np.asarray(violations, np.float64), np.asarray(trials, np.float64)
    with np.errstate(invalid="ignore"):
        bound = betaincinv(found + 1, np.maximum(of - found, 1e-300), CONFIDENCE)
    return np.asarray(np.where(found >= of, 1.0, bound), np.float64)


@dataclass(frozen=True)
class Certificate:
    """What is known of one goal: rates of violation and their upper bounds, over all trials and by layer."""

    delta: float
    rate: float
    bound: float
    layer_rates: "NDArray[np.float64]"  # [L]
    layer_bounds: "NDArray[np.float64]"  # [L]

    @property
    def worst(self) -> float:
        """The largest upper bound, of all trials or of one layer."""
        return max(self.bound, float(self.layer_bounds.max()))

    @property
    def certified(self) -> bool:
        return self.worst <= self.delta


def certify(delta: float, violations: "NDArray[np.float64]", trials: "NDArray[np.float64]") -> Certificate:
    """The certificate of a goal from the violations and trials of each layer [L]."""
    return Certificate(
        delta,
        rate=float(violations.sum() / trials.sum()),
        bound=float(upper_bound(violations.sum(), trials.sum())),
        layer_rates=violations / trials,
        layer_bounds=upper_bound(violations, trials),
    )
