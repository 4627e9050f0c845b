"""Which operator to try next, and which model: those that lately brought the grid the most for their cost.

Thompson sampling (Chapelle and Li, "An Empirical Evaluation of Thompson Sampling", 2011), which unlike upper
confidence bounds spreads what is asked for while no answer has come yet, over a sliding window, because what
pays at the start of a run does not pay at its end. Credit is by rank within the window, so that neither the
scale of scores nor the unit of costs matters (Fialho, Schoenauer and Sebag, "Toward Comparison-based Adaptive
Operator Selection", GECCO 2010).
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from database.records import Placement, Step

if TYPE_CHECKING:
    from numpy.random import Generator

WINDOW = 100  # results that count
EXPLORED = 0.2  # share of the choices that follow the weights of the settings, whatever paid
Pay = tuple[float, float]  # of a proposal, compared in this order; (0.0, 0.0) is nothing


def gain_per_token(step: Step) -> Pay:
    """What a proposal came to: score gained per token, then cells filled per token."""
    return _per(step, step.effort.tokens)


def gain_per_dollar(step: Step) -> Pay:
    """What a proposal came to: score gained per dollar, then cells filled per dollar."""
    return _per(step, step.effort.cost_usd)


def _per(step: Step, cost: float) -> Pay:
    filled = step.placement is Placement.NEW_CELL
    return step.gain / (cost or 1.0), filled / (cost or 1.0)


def progress(step: Step, before: float) -> Pay:
    """What a proposal that costs nothing came to: an elite better than its parent, whose score is `before`.

    It is worth what it scores, not what it gained: gains are largest where the grid is worst. A place in the
    grid alone is worth nothing, as whatever hardly changes a good parent finds one.
    """
    came = step.score if step.entered else None
    return (1.0, came) if came is not None and came > before else (0.0, 0.0)


@dataclass(frozen=True)
class Result:
    """What a proposal came to."""

    model: str
    operator: str
    pay: Pay


class Bandit:
    """Remembers the latest proposals of models, and draws a model and an operator."""

    def __init__(
        self,
        steps: Iterable[Step],
        pay: Callable[[Step], Pay],
        models: Collection[str],
        window: int = WINDOW,
        doubt: float = 1.0,
    ) -> None:
        """`steps` are those of the archive, `pay` tells what each came to. Only what `models` made counts.
        `doubt` are failures that every arm begins with: many arms, of which few pay, are sorted out sooner.
        """
        self.pay = pay
        self.doubt = doubt
        self.models = frozenset(models)
        self.results: deque[Result] = deque(maxlen=window)
        self.credits: list[float] | None = None  # of the results, once they are asked for
        for step in steps:
            self.learn(step)

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        if step.effort.model not in self.models:
            return
        self.results.append(Result(step.effort.model, step.operator, self.pay(step)))
        self.credits = None

    def draw_model(self, weights: Mapping[str, float], random: "Generator") -> str:
        """One of the models that have a weight above 0."""
        return self._draw(weights, [result.model for result in self.results], random)

    def draw_operator(self, weights: Mapping[str, float], random: "Generator") -> str:
        """One of the operators that have a weight above 0."""
        return self._draw(weights, [result.operator for result in self.results], random)

    def _draw(self, weights: Mapping[str, float], arms: list[str], random: "Generator") -> str:
        """One of the names in `weights`, by what came of the results, whose names `arms` are."""
        open_to = {arm: weight for arm, weight in weights.items() if weight > 0}
        if random.random() < EXPLORED:
            return drawn(open_to, random.random())
        if self.credits is None:
            self.credits = self._credits()
        tried, gained = dict.fromkeys(open_to, 0), dict.fromkeys(open_to, 0.0)
        for arm, credit in zip(arms, self.credits, strict=True):
            if arm in open_to:
                tried[arm] += 1
                gained[arm] += credit
        hopes = {arm: random.beta(1 + gained[arm], self.doubt + tried[arm] - gained[arm]) for arm in open_to}
        return max(hopes, key=lambda arm: hopes[arm])

    def _credits(self) -> list[float]:
        """The share of the results in the window that each one is at least as good as; 0 for no gain."""
        worst_first = sorted(range(len(self.results)), key=lambda place: self.results[place].pay)
        credits, count = [0.0] * len(worst_first), 0
        paying = [place for place in worst_first if self.results[place].pay > (0.0, 0.0)]
        for _, equals in groupby(paying, key=lambda place: self.results[place].pay):
            places = list(equals)
            count += len(places)
            for place in places:
                credits[place] = count / len(paying)
        return credits


def drawn(weights: Mapping[str, float], random: float) -> str:
    """One of the names, in proportion to its weight; `random` is from [0, 1)."""
    place = random * sum(weights.values())
    for name, weight in weights.items():
        place -= weight
        if place < 0:
            return name
    return next(name for name in reversed(list(weights)) if weights[name] > 0)
