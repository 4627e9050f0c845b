"""Layer shares by what was measured: more for the layers whose errors fall most by it.

The feedback of a policy tells its error at every budget and layer, and so how the error of each layer falls
with what it reads. The shares are chosen for which the score of these curves is best.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import libcst as cst
import numpy as np

from evaluators.token_selection.scoring import scores_of
from evolve.builtin.errors import REMEMBERED, Errors, errors_in
from evolve.builtin.share_layers import with_layer_shares
from evolve.builtin.syntax import (
    code,
    definitions,
    methods,
    policy,
    references,
    with_constant,
)

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

ALLOT = "allot"
FARTHEST = 4.0  # times more or less than now that a layer may get: beyond, the curves say nothing
SURE = 0.5, 1.0  # how much of the way to the best shares is gone
LEAST = 0.003  # gain of the score that is worth the change
TABLE = "[{0}[layer * len({0}) // layers] for layer in range(layers)]"  # holds for any number of layers


@dataclass(frozen=True)
class Allotment:
    """Shares with mean 1 as they are and as they had better be, and what the score gains by it."""

    now: tuple[float, ...]
    better: tuple[float, ...]
    gain: float


@lru_cache(REMEMBERED)
def allotment(feedback: str) -> Allotment | None:
    """The shares that a feedback speaks for; None where it tells no errors, or speaks for no change."""
    from scipy.optimize import minimize

    errors = errors_in(feedback)
    if errors is None or errors.of.shape[1] < 2 or "% traffic: " not in feedback:
        return None  # only where traffic is counted may layers have shares of it
    now = (errors.read / errors.read.mean(1, keepdims=True)).mean(0)

    def loss(exponents: "NDArray[np.float64]") -> float:
        return -_score(errors, _moved(now, exponents) / now)

    reach = np.log(FARTHEST)
    found = minimize(loss, np.zeros(len(now)), method="L-BFGS-B", bounds=[(-reach, reach)] * len(now))
    better = _moved(now, found.x)
    gain = -float(found.fun) - _score(errors, np.ones(len(now)))
    if gain <= LEAST:
        return None
    return Allotment(tuple(now.tolist()), tuple(better.tolist()), gain)


def allot(module: cst.Module, feedback: str, random: "Generator") -> cst.Module | None:
    """Gives each layer the share for which the errors that were told speak, or a part of the way there."""
    found = allotment(feedback)
    if policy(module) is None or found is None:
        return None
    way = random.uniform(*SURE)
    shares = np.array(found.now) ** (1 - way) * np.array(found.better) ** way
    shares /= shares.mean()
    table = ", ".join(f"{share:.2f}" for share in np.maximum(shares, 0.01))
    changed, name = with_constant(_without_old_constants(module), "LAYER_SHARES", f"({table})")
    return with_layer_shares(changed, TABLE.format(name))


def _without_old_constants(module: cst.Module) -> cst.Module:
    """The module without constants that nothing but `layer_shares` reads."""
    old = methods(module).get("layer_shares")
    if old is None:
        return module
    assigned = {
        name: node for name, node in definitions(module).items() if isinstance(node, cst.SimpleStatementLine)
    }
    inside, everywhere = (Counter(code(site.node) for site in references(root)) for root in (old, module))
    # all that is left of a constant is then its own line
    unread = [assigned[name] for name in inside if name in assigned and everywhere[name] - inside[name] <= 1]
    return module.with_changes(body=[line for line in module.body if line not in unread])


def _score(errors: Errors, times: "NDArray[np.float64]") -> float:
    """The score if each layer read so many times what it reads now."""
    return float(scores_of(errors.at(errors.read * times)))


def _moved(now: "NDArray[np.float64]", exponents: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Shares with mean 1, each e to so much times what it is now."""
    moved = now * np.exp(exponents)
    return np.asarray(moved / moved.mean(), np.float64)
