"""The workloads of `verified_selection`: those of `token_selection`, with goals in place of budgets."""

from collections.abc import Sequence

from evaluators.corpus import Split
from evaluators.token_selection.workloads import EXACT, Goal, StagePlan
from kvolve import KvolveError

QUANTITIES = ("output", "numerator", "denominator")
GOALS = ("0.05,0.05", "0.1,0.1", "0.2,0.2")

# How much of a recording each stage uses: split, decode steps, contexts. The more steps, the smaller a rate of
# violations can be told from delta.
STEPS: dict[str, tuple[Split, tuple[int, ...], int | None]] = {
    "probe": ("search", (0, 1), 1),
    "second_probe": ("search", (30, 31), 1),
    "search": ("search", (0, 1, 2), None),
    "validation": ("validation", (0, 1, 2, 3, 28, 29, 30, 31), None),
    "holdout": ("holdout", tuple(range(32)), None),
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


def plans(goals: tuple[Goal, ...]) -> dict[str, StagePlan]:
    """How much of a recording each stage uses. The probe has one goal more: to be exact."""
    exact = Goal(EXACT, goals[0].delta, goals[0].quantity)
    return {
        stage: StagePlan(
            split, steps, contexts=contexts, goals=(*goals, exact) if stage == "probe" else goals
        )
        for stage, (split, steps, contexts) in STEPS.items()
    }
