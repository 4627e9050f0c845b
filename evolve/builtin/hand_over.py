"""Division of labour by what was measured: where another candidate had the smaller errors, it selects.

The feedback of a policy tells its error at every budget and layer, or its violations and traffic for every
goal and layer. As these are played apart, what a policy comes to that hands some of them over to another one
is known before it is made.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import libcst as cst
import numpy as np

from evaluators.token_selection.scoring import scores_of
from evolve.builtin.errors import ERRORS, REMEMBERED, Errors, errors_in
from evolve.builtin.promises import PROMISES, Promises, promises_in
from evolve.builtin.selects import asked_of, selection_of
from evolve.builtin.switch import dispatched, joined_policies
from evolve.builtin.syntax import with_constant

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

HAND_OVER = "hand_over"
READ = re.compile(f"{ERRORS.pattern}|{PROMISES.pattern}", re.MULTILINE)  # of a feedback
LEAST = 0.003  # gain of the score for which it is worth a longer program
NEARLY = 0.6  # share of the largest gain that other divisions may have


@dataclass(frozen=True)
class Division:
    """What is handed over: layers below or from a number on, budgets (or epsilons) so, or both."""

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
    found = _by_errors(errors_in(ours), errors_in(theirs))
    found += _by_promises(promises_in(ours), promises_in(theirs))
    return tuple(sorted(found, key=lambda division: -division.gain))


def _by_errors(own: Errors | None, other: Errors | None) -> list[Division]:
    if own is None or other is None or own.budgets != other.budgets or own.of.shape != other.of.shape:
        return []
    # the other one gets what this one gives its layers
    others = other.of if np.allclose(own.read, other.read, rtol=0.1) else other.at(own.read)
    ways = list(_ways(own.of.shape[1], _budgets(own)))
    handed = np.array([taken for _, taken in ways])  # [K, B, L]
    gains = scores_of(np.where(handed, others, own.of)) - scores_of(own.of)
    return [
        replace(way, gain=float(gain)) for gain, (way, _) in zip(gains, ways, strict=True) if gain > LEAST
    ]


def _by_promises(own: Promises | None, other: Promises | None) -> list[Division]:
    if own is None or other is None or own.epsilons != other.epsilons:
        return []
    before = own.score()
    found = [
        replace(way, gain=own.with_parts(other, taken).score() - before)
        for way, taken in _ways(own.rates.shape[1], _goals(own))
    ]
    return [division for division in found if division.gain > LEAST]


def _ways(
    layers: int, asked: "Iterator[tuple[str, float, NDArray[np.bool_]]]"
) -> "Iterator[tuple[Division, NDArray[np.bool_]]]":
    """All that can be handed over, and where that is [B, L]."""
    conditions = list(asked)
    for condition, layer, of_layers in _layers(layers):
        for budgets, budget, of_budgets in conditions:
            if condition or budgets:
                yield Division(0.0, condition, layer, budgets, budget), of_budgets & of_layers


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


def _goals(own: Promises) -> "Iterator[tuple[str, float, NDArray[np.bool_]]]":
    """Conditions on the goal, and where they hold [B, 1]."""
    epsilons = np.array(own.epsilons)[:, None]
    yield "", 0.0, epsilons > 0
    for low, high in pairwise(own.epsilons):
        between = math.sqrt(low * high)
        yield "goal.epsilon < {}", between, epsilons < between
        yield "goal.epsilon >= {}", between, epsilons >= between


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
        small = asked_of(module)[1]
        wanted = small if "<" in division.budgets else small.replace("SMALL", "LARGE")
        changed, name = with_constant(changed, wanted, f"{division.budget:.3f}")
        conditions.append(division.budgets.format(name))
    return dispatched(changed, their_select, " and ".join(conditions))
