"""The built-in proposer: changes the syntax trees of candidates, without a network and without a model."""

import math
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from database.archive import Archive
from database.records import Effort, Step
from evolve.bandit import Bandit, Pay, progress
from evolve.builtin.allot import ALLOT, allotment
from evolve.builtin.drafting import Drafting
from evolve.builtin.hand_over import HAND_OVER, divisions
from evolve.builtin.improve import IMPROVE, places
from evolve.builtin.switch import can_be_joined
from evolve.builtin.syntax import parse
from evolve.builtin.tune import BUILTIN, TUNE, Tuning, first_score, is_tuning
from evolve.proposer import Draft, Parent, Request, parent_of
from evolve.simpler import Simpler
from evolve.strategies import seeds_of

if TYPE_CHECKING:
    from numpy.random import Generator

T = TypeVar("T")
TUNE_WEIGHT = 0.2  # of the nested search, beside the weights of the operators
AT_ONCE = 4.0  # proposals of a nested search for each time that it is drawn, on average
SURVEYED = 0.2  # probability that elites are looked over for what promises a new best
MARK = 0.02  # by which it is to be better: each time, programs get longer
KEPT = 0.7  # of what is promised for other shares, about so much comes true
ELITES = 1024  # whose feedback and scores are kept at hand
REMEMBERED = 300  # results by which operators are judged
DOUBT = 8.0  # most operators bring something rarely: those that do are to be told from the others early


class BuiltinProposer:
    """Chooses an operator by what operators lately brought, and applies it.

    Without `adapts` it neither learns nor tunes: every proposal is as good as independent of all others, as
    the baseline best-of-N wants them. Where it `surveys`, as MAP-Elites lets it, it may take other elites
    than the parents that it is given, if what can be told before promises to be better than all there is.
    """

    def __init__(
        self, archive: Archive, drafting: Drafting, adapts: bool = True, surveys: bool = False
    ) -> None:
        self.archive = archive
        self.drafting = drafting
        self.adapts = adapts
        self.surveys = surveys and {ALLOT, HAND_OVER} <= {operator.name for operator in drafting.operators}
        latest = archive.latest_steps(REMEMBERED, models=[BUILTIN])
        self.score = lru_cache(ELITES)(partial(first_score, archive))
        self.bandit = Bandit(latest, self._pay, [BUILTIN], window=REMEMBERED, doubt=DOUBT)
        self.parent = lru_cache(ELITES)(partial(parent_of, archive))
        self.tuning = Tuning(archive)
        self.simpler = Simpler(archive, [BUILTIN])

    def prepare(self, request: Request, known: int, random: "Generator") -> Request:
        """The request with an operator, and what it goes on from; see `evolve.proposer.Reading`."""
        if not request.choice:
            request = self._chosen(request, random)
        if is_tuning(request):
            self.tuning.note(request)
        return request

    def _chosen(self, request: Request, random: "Generator") -> Request:
        if not self.adapts:
            return request
        if self.surveys and random.random() < SURVEYED and (promise := self._surveyed(random)):
            operator, chosen = promise
            return replace(request, parents=chosen, choice=operator)
        first = request.parents[0]
        search = self.tuning.next(first.hash, first.score)
        parents = tuple(map(self.simpler.of, request.parents))
        weights = self.drafting.weights(parents[0])
        if search is not None:
            weights[TUNE] = TUNE_WEIGHT
        operator = self.bandit.draw_operator(weights, random)
        if operator == TUNE and search is not None:
            root, size = search
            if random.random() < AT_ONCE / size:  # else these would be most of all proposals
                return self.tuning.prepared(request, root, size)
            del weights[TUNE]
            operator = self.bandit.draw_operator(weights, random)
        if (partner := self._partner(operator, parents[0], random)) is not None:
            parents = parents[0], partner
        return replace(request, parents=parents, choice=operator)

    def _partner(self, operator: str, parent: Parent, random: "Generator") -> Parent | None:
        """The second parent that an operator looks for itself; None where it does not, or finds none."""
        if operator == HAND_OVER:
            return self._promising(parent, random)
        if operator == IMPROVE:
            return self._valuing(parent, random)
        return None

    def _surveyed(self, random: "Generator") -> tuple[str, tuple[Parent, ...]] | None:
        """An operator and elites for which it promises more than the best has; the more, the likelier."""
        elites = [self.parent(hash) for hash in dict.fromkeys(elite.hash for elite in self.archive.elites())]
        mark = max((elite.score for elite in elites), default=math.inf) + MARK
        beyond: dict[tuple[str, tuple[Parent, ...]], float] = {}
        for one in elites:
            if (allotted := allotment(one.feedback)) is not None:
                beyond[ALLOT, (one,)] = one.score + KEPT * allotted.gain - mark
            for other in elites:
                if found := divisions(one.feedback, other.feedback):
                    beyond[HAND_OVER, (one, other)] = one.score + found[0].gain - mark
        beyond = {promise: more for promise, more in beyond.items() if more > 0}
        while beyond:
            operator, parents = promise = _in_proportion(beyond, random)
            if operator == ALLOT or can_be_joined(*(parse(one.source) for one in parents)):
                return promise
            del beyond[promise]
        return None

    def _promising(self, parent: Parent, random: "Generator") -> Parent | None:
        """An elite to which a parent may hand over, the more it promises the likelier; None if none promises
        anything.
        """
        elites = [self.parent(elite.hash) for elite in self.archive.elites()]
        gains = {
            elite: one[0].gain for elite in elites if (one := divisions(parent.feedback, elite.feedback))
        }
        return _in_proportion(gains, random) if gains else None

    def _valuing(self, parent: Parent, random: "Generator") -> Parent | None:
        """A seed that can value the answers of a parent which cannot do so itself. Programs get better
        without what values them, so that no elite may have it any more.
        """
        module = parse(parent.source)
        if places(module, module):
            return None
        seeds = [self.parent(seed.hash) for seed in seeds_of(self.archive)]
        able = [seed for seed in seeds if places(module, parse(seed.source))]
        return able[int(random.integers(len(able)))] if able else None

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """A changed `request.parents[0]`, or a generation of them; the same request, archive and random state
        give the same.
        """
        if is_tuning(request):
            return self.tuning.draft(request, random)
        draft = self.drafting.draft(request.parents, random, request.choice)
        return replace(draft, effort=Effort(BUILTIN))

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        if step.effort.model == BUILTIN:
            self.bandit.learn(step)
            self.tuning.learn(step)
            self.simpler.learn(step)

    def _pay(self, step: Step) -> Pay:
        return progress(step, -math.inf if step.parent is None else self.score(step.parent))

    async def close(self) -> None:
        """Nothing: it holds no connection."""


def _in_proportion(weights: dict[T, float], random: "Generator") -> T:
    """One of the keys, as likely as its weight says."""
    chances = np.array(list(weights.values()))
    return list(weights)[int(random.choice(len(weights), p=chances / chances.sum()))]
