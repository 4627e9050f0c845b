"""Guarantees by goal and layer, as the feedback of a policy of `verified_selection` tells them."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from evolve.builtin.errors import REMEMBERED

if TYPE_CHECKING:
    from numpy.typing import NDArray

LIST = r"[\d.]+%(?:, [\d.]+%)*"
PROMISES = re.compile(
    r"^Epsilon ([\d.e-]+), delta ([\d.e-]+) of the \w+: (?:NOT )?certified; ([\d.]+)% violations "
    rf"\(upper bound ([\d.]+)%\), by layer ({LIST}) \(bounds ({LIST})\); traffic [\d.]+%, by layer ({LIST});",
    re.MULTILINE,
)
ROUNDED = 0.0005  # that a told bound may be too small


@dataclass(frozen=True, eq=False)
class Promises:
    """What a feedback tells, by goal B from the smallest epsilon on, and layer L."""

    epsilons: tuple[float, ...]
    deltas: "NDArray[np.float64]"  # [B]
    rates: "NDArray[np.float64]"  # of violations [B, L],
    bounds: "NDArray[np.float64]"  # and their upper bounds
    beyond: "NDArray[np.float64]"  # [B] by which the bound of all layers is above their rate
    traffic: "NDArray[np.float64]"  # [B, L]

    def score(self) -> float:
        """The score, as far as it can be told from figures that are rounded: see `scoring.score_of`."""
        worst = np.maximum(self.bounds.max(1), self.rates.mean(1) + self.beyond) + ROUNDED
        kept, missed = -np.log10(self.traffic.mean(1)), -np.log10(worst / self.deltas)
        return float(np.where(worst <= self.deltas, kept, missed).mean())

    def with_parts(self, other: "Promises", taken: "NDArray[np.bool_]") -> "Promises":
        """These promises where those of another policy hold in some goals and layers [B, L]. Goals and layers
        are played apart, and no budget is shared among them.
        """
        rates, bounds, traffic = (
            np.where(taken, theirs, ours)
            for ours, theirs in (
                (self.rates, other.rates),
                (self.bounds, other.bounds),
                (self.traffic, other.traffic),
            )
        )
        beyond = np.where(taken.any(1), np.maximum(self.beyond, other.beyond), self.beyond)
        return Promises(self.epsilons, self.deltas, rates, bounds, beyond, traffic)


@lru_cache(REMEMBERED)
def promises_in(feedback: str) -> Promises | None:
    """The promises that a feedback tells; None where it tells none, or of one layer only."""
    rows = sorted(PROMISES.findall(feedback), key=lambda row: float(row[0]))
    if not rows:
        return None
    epsilons, deltas, rates, bounds = (np.array([float(row[place]) for row in rows]) for place in range(4))
    of_layers, layer_bounds, traffic = (
        np.array([_numbers(row[place]) for row in rows]) for place in range(4, 7)
    )
    if of_layers.shape[1] < 2:
        return None
    beyond = (bounds - rates) / 100
    return Promises(tuple(epsilons.tolist()), deltas, of_layers, layer_bounds, beyond, traffic)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part.rstrip("%")) / 100 for part in text.split(", "))
