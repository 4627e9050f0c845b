"""Division of labour by what was measured: where another candidate had the smaller errors, it selects.

The feedback of a policy tells its error at every budget and layer. As layers and budgets are played apart,
the errors of a policy that hands some of them over to another one are known before it is made.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import libcst as cst
import numpy as np

from evaluators.token_selection.scoring import scores_of
from evolve.builtin.errors import REMEMBERED, Errors, errors_in
from evolve.builtin.selects import selection_of
from evolve.builtin.switch import dispatched, joined_policies
from evolve.builtin.syntax import (
    with_constant,
)

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

HAND_OVER = "hand_over"
LEAST = 0.003  # gain of the score for which it is worth a longer program
NEARLY = 0.6  # share of the largest gain that other divisions may have


@dataclass(frozen=True)
class Division:
    """What is handed over: layers below or from a number on, budgets below or from a number on, or both."""

    gain: float
    layers: str  # a condition, with the name of the constant in it left open; "" for all layers
    layer: int
    budgets: str
    budget: float


@lru_cache(REMEMBERED)
def divisions(ours: str, theirs: str) -> tuple[Division, ...]:
    """What a policy of feedback `ours` gains from by handing it over to one of feedback `theirs`, the most
    first.
    """
    own, other = errors_in(ours), errors_in(theirs)
    if own is None or other is None or own.budgets != other.budgets or own.of.shape != other.of.shape:
        return ()
    # the other one gets what this one gives its layers
    others = other.of if np.allclose(own.read, other.read, rtol=0.1) else other.at(own.read)
    ways = [
        (layers, budgets)
        for layers in _layers(own.of.shape[1])
        for budgets in _budgets(own)
        if layers[0] or budgets[0]
    ]
    handed = np.array([budgets[2] & layers[2] for layers, budgets in ways])  # [K, B, L]
    gains = scores_of(np.where(handed, others, own.of)) - scores_of(own.of)
    found = [
        Division(float(gain), *layers[:2], *budgets[:2])
        for gain, (layers, budgets) in zip(gains, ways, strict=True)
        if gain > LEAST
    ]
    return tuple(sorted(found, key=lambda division: -division.gain))


def _layers(count: int) -> "Iterator[tuple[str, int, NDArray[np.bool_]]]":
    places = np.arange(count)
    yield "", 0, places >= 0
    for number in range(1, count):
        yield "cache.layer < {}", number, places < number
        yield "cache.layer >= cache.layers - {}", number, places >= count - number


def _budgets(own: Errors) -> "Iterator[tuple[str, float, NDArray[np.bool_]]]":
    """Conditions on the budget of a layer, and where they hold [B, L]: its share of it is what it reads."""
    yield "", 0.0, own.read > 0
    for low, high in pairwise(own.budgets):
        between = math.sqrt(low * high)
        yield "budget < {}", between, own.read < between
        yield "budget >= {}", between, own.read >= between


def hand_over(
    module: cst.Module, given: tuple[str, cst.Module, str] | str, random: "Generator"
) -> cst.Module | None:
    """Lets a second parent select where its feedback promises more; `given` are the feedback of the first,
    the second parent, and its feedback.
    """
    if isinstance(given, str):  # there is no second one
        return None
    ours, donor, theirs = given
    promised = divisions(ours, theirs)
    select = selection_of(module)
    joined = joined_policies(module, donor, 0.0, random) if promised else None
    if joined is None or select is None:
        return None
    best = [division for division in promised if division.gain >= NEARLY * promised[0].gain]
    division = best[random.integers(len(best))]
    changed, their_select = joined
    conditions = []
    if division.layers:
        wanted = "FIRST_LAYERS" if "<" in division.layers else "LAST_LAYERS"
        changed, name = with_constant(changed, wanted, str(division.layer))
        conditions.append(division.layers.format(name).replace("cache.", f"{select[2]}."))
    if division.budgets:
        wanted = "SMALL_BUDGET" if "<" in division.budgets else "LARGE_BUDGET"
        changed, name = with_constant(changed, wanted, f"{division.budget:.3f}")
        conditions.append(division.budgets.format(name))
    return dispatched(changed, their_select, " and ".join(conditions))
