"""Tuning: all numbers of a program together, by CMA-ES, as a search of its own with a small budget.

Hansen and Ostermeier, "Completely Derandomized Self-Adaptation in Evolution Strategies", Evolutionary
Computation 9(2), 2001; many numbers by its separable form (Ros and Hansen, PPSN 2008). A generation is one
request with several drafts; what it came to is learned before the next one is asked for. A search is told
from the archive alone: its root is the parent of its drafts, and their sources say where they stood.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from database.archive import Archive
from database.records import Effort, Step
from evolve.builtin.numbers import Number, at, numbers, places
from evolve.builtin.syntax import parse
from evolve.proposer import Draft, Request, parent_of

if TYPE_CHECKING:
    from cmaes import CMA, SepCMA
    from numpy.random import Generator

BUILTIN = "builtin"  # what stands where the archive names the model of a proposal
TUNE = "tune"
ALL = 1_000_000
WIDTH = 0.35  # of the first generation, in coordinates
SEPARABLE = 20  # more numbers than that are taken to be independent
FEWEST, MOST = 4, 12  # drafts of a generation
PATIENCE = 2  # generations without a new best, after which a search ends
GENERATIONS = 12


@dataclass
class Search:
    """One nested search. `asked` counts the drafts of all generations, `results` are those that are known."""

    root: str
    size: int  # drafts of a generation
    asked: int = 0
    results: list[tuple[str, float | None]] = field(default_factory=list)

    @property
    def generation(self) -> int:
        """The number of the generation that is asked for next."""
        return self.asked // self.size

    def is_open(self, score: float) -> bool:
        """Whether a further generation is worth it; `score` is the root's."""
        if len(self.results) < self.asked or self.generation >= GENERATIONS:
            return False
        best, stale = score, 0
        for start in range(0, len(self.results), self.size):
            top = max(
                (s for _, s in self.results[start : start + self.size] if s is not None), default=-math.inf
            )
            stale = 0 if top > best else stale + 1
            best = max(best, top)
        return stale < PATIENCE


class Tuning:
    """The nested searches of a run."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.searches: dict[str, Search | None] = {}  # by root; None for a program without numbers
        self.origin: dict[str, str] = {}  # candidate -> root of the search that it came from
        for step in archive.latest_steps(ALL, TUNE, [BUILTIN]):
            self.learn(step)
        for proposal in archive.pending():
            if proposal.operator == TUNE and (search := self._search(proposal.parents[0])):
                search.asked += 1

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        if step.operator != TUNE or step.parent is None or (search := self._search(step.parent)) is None:
            return
        score = step.score
        if score is None and step.duplicate_of is not None:  # what rounds to known numbers is as good as they
            known = self.archive.find_source(step.hash)
            score = known.score if known else None
        search.results.append((step.hash, score))
        search.asked = max(search.asked, len(search.results))
        self.origin.setdefault(step.hash, step.parent)

    def next(self, hash: str, score: float) -> tuple[str, int] | None:
        """The root of the search for a candidate that has a score, and how many drafts come next.

        That is the search that the candidate came from, as long as it goes on, then one of its own; None
        where there is nothing to tune, or it has been done.
        """
        above = self.origin.get(hash)
        for root in (above, hash) if above is not None else (hash,):
            search = self._search(root)
            if search is not None and search.is_open(
                score if root == hash else first_score(self.archive, root)
            ):
                return root, search.size
        return None

    def prepared(self, request: Request, root: str, size: int) -> Request:
        """The request for the next generation of a search."""
        search = self._search(root)
        assert search is not None  # `next` named it
        choice = f"{TUNE} {search.generation}"
        return replace(request, parents=(parent_of(self.archive, root),), choice=choice, drafts=size)

    def note(self, request: Request) -> None:
        """Told of each request for a generation, be it new or taken up from before a kill."""
        if search := self._search(request.parents[0].hash):
            search.asked += request.drafts

    def draft(self, request: Request, random: "Generator") -> Draft:
        """A generation: as many drafts as the request is for."""
        root, generation = request.parents[0].hash, int(request.choice.split()[1])
        sources = self.drafts(root, generation, random)
        first, *more = (Draft(TUNE, (root,), source, effort=Effort(BUILTIN)) for source in sources)
        return replace(first, more=tuple(more))

    def drafts(self, root: str, generation: int, random: "Generator") -> list[str]:
        """The sources of a generation, whose predecessors are known."""
        module = parse(self.archive.candidate(root).source)
        found, search = numbers(module), self._search(root)
        if search is None:
            return []
        strategy = _strategy(found, search.size, int(random.integers(2**31 - 1)))
        known = search.results[: generation * search.size]
        for start in range(0, len(known), search.size):
            if told := self._told(found, known[start : start + search.size]):
                strategy.tell(told)
        return [at(module, found, strategy.ask().tolist()).code for _ in range(search.size)]

    def _told(
        self, found: Sequence[Number], results: Sequence[tuple[str, float | None]]
    ) -> list[tuple[np.ndarray, float]]:
        """Coordinates and losses of a generation; empty where some of its programs differ in more."""
        scored = [score for _, score in results if score is not None]
        worst = min(scored, default=0.0) - 1.0
        told = []
        for hash, score in results:
            stood = places(found, parse(self.archive.candidate(hash).source))
            if stood is None:
                return []
            told.append((np.array(stood), -(worst if score is None else score)))
        return told

    def _search(self, root: str) -> Search | None:
        if root not in self.searches:
            count = len(numbers(parse(self.archive.candidate(root).source)))
            size = min(max(FEWEST, 4 + int(3 * math.log(count))), MOST) if count else 0
            self.searches[root] = Search(root, size) if count else None
        return self.searches[root]


def first_score(archive: Archive, hash: str) -> float:
    """The score of a candidate as it was first measured; -inf for one that has none."""
    evaluation = archive.candidate(hash).evaluation
    return -math.inf if evaluation is None or evaluation.score is None else evaluation.score


def _strategy(found: Sequence[Number], size: int, seed: int) -> "CMA | SepCMA":
    from cmaes import CMA, SepCMA

    mean = np.array([number.coordinate(number.value) for number in found])
    kind = SepCMA if len(found) > SEPARABLE else CMA
    return kind(mean=mean, sigma=WIDTH, seed=seed, population_size=size)


def is_tuning(request: Request) -> bool:
    """Whether a request is for a generation of a nested search."""
    return request.choice.startswith(f"{TUNE} ")
