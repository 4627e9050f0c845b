"""Budget rules on recorded heads whose moments are known: how large a sample each asks for, and how often the
error is above epsilon then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from evaluators.token_selection.estimator import dense_scores
from evaluators.token_selection.workloads import open_workload

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SINKS, WINDOW, TOP = 16, 32, 0.05
SHARES = 15


@dataclass(frozen=True)
class Head:
    """One head at one step: what is read for certain, and the residual of n tokens."""

    weights: "NDArray[np.float64]"  # [n] of the residual, in parts of the exact denominator
    values: "NDArray[np.float64]"  # [n, D]
    heavy: float  # the denominator of what is read for certain
    numerator: "NDArray[np.float64]"  # [D] exact, which is the exact output, too

    @property
    def n(self) -> int:
        return len(self.weights)

    @property
    def scale(self) -> float:
        return float(np.linalg.norm(self.numerator))

    def spread(self, quantity: str) -> float:
        """The root of the trace of the covariance of what is summed, in parts of the sum's exact size."""
        moved = {
            "denominator": self.weights[:, None],
            "numerator": self.weights[:, None] * self.values,
            "output": self.weights[:, None] * (self.values - self.numerator),
        }[quantity]
        return float(np.sqrt(moved.var(0).sum())) / (1.0 if quantity == "denominator" else self.scale)


def heads_of(recording: "Path", stage: str = "search", contexts: int | None = None) -> Iterator[Head]:
    """All heads at the first step of each context and layer that a stage uses of a recording."""
    workload = open_workload(stage, recording)
    for context in workload.contexts[:contexts]:
        for layer in context:
            tokens = workload.length(0)
            keys, values = (part[:, :tokens].astype(np.float32) for part in (layer.keys, layer.values))
            scores = dense_scores(layer.queries[:1], keys)[0].astype(np.float64)  # [H, N]
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            group = len(weights) // len(values)
            for head, row in enumerate(weights):
                middle = row[SINKS:-WINDOW]
                rest = SINKS + np.argsort(-middle)[int(TOP * tokens) :]
                mine = values[head // group].astype(np.float64)
                yield Head(row[rest], mine[rest], 1 - row[rest].sum(), row @ mine)


@cache
def quantile(probability: float) -> float:
    return float(norm.ppf(probability))


def lemma(n: int, spread: float, epsilon: float, delta: float, sides: int = 2) -> float:
    """Samples with replacement for a sum over n tokens."""
    return float((quantile(1 - delta / sides) * n * spread / epsilon) ** 2)


def size(rule: str, head: Head, epsilon: float, delta: float) -> int:
    """Samples without replacement that a rule asks for to guarantee the output."""
    numerator, denominator = head.spread("numerator"), head.spread("denominator")
    if rule == "lemma":  # 2 (epsilon_1 + epsilon_2) and delta_1 + delta_2, shared in the best way
        parts = [(part + 1) / (SHARES + 1) for part in range(SHARES)]
        found = min(
            max(
                lemma(head.n, numerator, epsilon / 2 * e, delta * d),
                lemma(head.n, denominator, epsilon / 2 * (1 - e), delta * (1 - d)),
            )
            for e in parts
            for d in parts
        )
        return min(head.n, int(np.ceil(found)))
    if rule == "tight":
        found = lemma(head.n, max(numerator, denominator), epsilon / (2 + epsilon), delta / 2)
    else:
        found = lemma(head.n, head.spread("output"), epsilon, delta)
    return min(head.n, max(2, int(np.ceil(found * head.n / (found + head.n)))))


def draws(
    head: Head, count: int, times: int, random: np.random.Generator, replace: bool
) -> "NDArray[np.int64]":
    """Indices [times, count] of the residual, each draw uniform."""
    if replace:
        return random.integers(head.n, size=(times, count))
    return np.argsort(random.random((times, head.n)), 1)[:, :count]


def exceedance(head: Head, quantity: str, epsilon: float, drawn: "NDArray[np.int64]") -> float:
    """The share of draws whose error of a quantity is above epsilon."""
    times, count = drawn.shape
    hits = np.zeros((times, head.n))
    np.add.at(hits, (np.repeat(np.arange(times), count), drawn.ravel()), head.n / count)
    heavy_part = head.numerator - head.weights @ head.values
    denominators = head.heavy + hits @ head.weights
    numerators = heavy_part + hits @ (head.weights[:, None] * head.values)
    if quantity == "denominator":
        errors = np.abs(denominators - 1)
    else:
        found = numerators if quantity == "numerator" else numerators / denominators[:, None]
        errors = np.linalg.norm(found - head.numerator, axis=1) / head.scale
    return float((errors > epsilon).mean())


def mean_exceedance(heads: Sequence[Head], quantity: str, delta: float, sides: int, times: int) -> float:
    """How often a guarantee of the numerator or denominator alone is missed at epsilon 0.05, over the heads
    whose samples are neither few nor most of the residual, NaN if none is; drawn with replacement, as the
    lemma has it.
    """
    random, epsilon, found = np.random.default_rng(0), 0.05, []
    for head in heads:
        count = int(np.ceil(lemma(head.n, head.spread(quantity), epsilon, delta, sides)))
        if 30 <= count <= head.n / 2:
            found.append(exceedance(head, quantity, epsilon, draws(head, count, times, random, True)))
    return float(np.mean(found)) if found else float("nan")
