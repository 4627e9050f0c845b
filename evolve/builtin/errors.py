"""Errors by layer and budget, as a policy's feedback tells them, and what they would be at other traffic."""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ERRORS = re.compile(
    r"^At ([\d.]+)% (?:traffic|computed): .*by layer: ([\d.]+(?:, [\d.]+)*)"
    r"(?: \((?:reading|computing) ([\d.]+%(?:, [\d.]+%)*)\))?\.$",
    re.MULTILINE,
)
FINEST = 0.0005  # what is told as 0.000 may be as much
STEEPEST = 3.0  # fall of log(error) with log(traffic): what is steeper is no trend
REMEMBERED = 8192  # elites stay the same for long


@dataclass(frozen=True, eq=False)
class Errors:
    """What a feedback tells, by budget from the smallest one on, and layer [B, L]."""

    budgets: tuple[float, ...]
    of: "NDArray[np.float64]"
    read: "NDArray[np.float64]"  # traffic

    def at(self, read: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """The errors that the policy would have at other traffic [B, L], layer by layer.

        Logarithm over logarithm, lines lead from budget to budget and beyond the outer ones.
        """
        found = np.empty_like(read)
        for layer, (x, y, slopes) in enumerate(self._lines):
            wanted = np.log(np.minimum(read[:, layer], 1.0))
            inner = np.interp(wanted, x, y)
            below = y[0] + slopes[0] * np.minimum(wanted - x[0], 0)
            above = y[-1] + slopes[-1] * np.maximum(wanted - x[-1], 0)
            found[:, layer] = np.exp(np.where(wanted < x[0], below, np.where(wanted > x[-1], above, inner)))
        return np.where(read >= 1, FINEST, found.clip(FINEST))

    @cached_property
    def _lines(self) -> "list[tuple[NDArray[np.float64], ...]]":
        """Of each layer, log(traffic), log(error), and the slope from each point to the next."""
        lines: list[tuple[NDArray[np.float64], ...]] = []
        for layer in range(self.read.shape[1]):
            order = np.argsort(self.read[:, layer])
            x = np.log(self.read[order, layer])
            y = np.minimum.accumulate(np.log(self.of[order, layer]))  # reading more does no harm
            slopes = np.clip(np.diff(y) / np.maximum(np.diff(x), 1e-9), -STEEPEST, 0.0)
            lines.append((x, y, slopes))
        return lines


@lru_cache(REMEMBERED)
def errors_in(feedback: str) -> Errors | None:
    """The errors that a feedback tells; None where it tells none, or is no table."""
    rows = sorted(
        (float(budget) / 100, _numbers(errors), _numbers(read.replace("%", "")))
        for budget, errors, read in ERRORS.findall(feedback)
    )
    layers = {len(errors) for _, errors, _ in rows}
    if len(rows) < 2 or len(layers) > 1 or any(read and len(read) not in layers for _, _, read in rows):
        return None
    budgets = tuple(budget for budget, _, _ in rows)
    of = np.array([errors for _, errors, _ in rows]).clip(FINEST)
    read = np.array([[part / 100 for part in read] or [budget] * of.shape[1] for budget, _, read in rows])
    return Errors(budgets, of, read.clip(1e-4)) if len(set(budgets)) == len(budgets) else None


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(", ")) if text else ()
