"""The workloads of `verified_selection`: those of `token_selection`, with goals in place of budgets."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from evaluators.corpus import Split
from evaluators.token_selection.workloads import EXACT, PLANNED_STEPS, Goal, StagePlan
from kvolve import KvolveError

QUANTITIES = ("output", "numerator", "denominator")
GOALS = ("0.05,0.05", "0.1,0.1", "0.2,0.2")


class Stage(NamedTuple):
    """How much of a recording one stage uses.

    What is looked at are steps of contexts: the more there are, the smaller a rate of violations can be told
    from delta. So where there are few contexts, there are more steps.
    """

    split: Split
    looks: int
    contexts: int | None = None  # None: all contexts of the split
    late: bool = False  # the last steps instead of the first


STAGES = {
    "probe": Stage("search", looks=2, contexts=1),
    "second_probe": Stage("search", looks=2, contexts=1, late=True),
    "search": Stage("search", looks=24),
    "validation": Stage("validation", looks=64),
    "holdout": Stage("holdout", looks=256),
}


def goals_of(texts: Sequence[str]) -> tuple[Goal, ...]:
    """The goals that texts "EPSILON,DELTA" or "EPSILON,DELTA,QUANTITY" name.

    Raises KvolveError for what is none.
    """
    goals = tuple(map(_goal, texts))
    if len({goal.quantity for goal in goals}) > 1:
        raise KvolveError("The goals are of several quantities. A run guarantees one of them.")
    if len(set(goals)) < len(goals):
        raise KvolveError(f"A goal is there twice in {' '.join(texts)}. Give each once.")
    return goals


def _goal(text: str) -> Goal:
    numbers, _, quantity = text.rpartition(",") if text.count(",") == 2 else (text, "", QUANTITIES[0])
    try:
        epsilon, delta = map(float, numbers.split(","))
    except ValueError:
        epsilon, delta = 0.0, 0.0
    if not (EXACT < epsilon <= 1 and 0 < delta < 1) or quantity not in QUANTITIES:
        raise KvolveError(
            f"The goal {text!r} is not EPSILON,DELTA or EPSILON,DELTA,QUANTITY, such as 0.1,0.1 or "
            f"0.1,0.05,denominator. Epsilon is above 0 and at most 1, delta between 0 and 1; quantities are "
            f"{', '.join(QUANTITIES)}."
        )
    return Goal(epsilon, delta, quantity)


def plan(name: str, contexts: int, goals: tuple[Goal, ...]) -> StagePlan:
    """What a stage uses of a split of so many contexts. The probe has one goal more: to be exact."""
    stage = STAGES[name]
    steps = min(PLANNED_STEPS, math.ceil(stage.looks / min(contexts, stage.contexts or contexts)))
    first = PLANNED_STEPS - steps if stage.late else 0
    exact = (Goal(EXACT, goals[0].delta, goals[0].quantity),) if name == "probe" else ()
    return StagePlan(
        stage.split, tuple(range(first, first + steps)), contexts=stage.contexts, goals=(*goals, *exact)
    )
