"""How parents are chosen: MAP-Elites, and the baselines that it has to beat at equal budget.

A strategy chooses parents and does nothing else: loop, cascade, archive and finals are the same for all. What
it remembers is learned step by step and is derived from the archive again when a run is resumed.
"""

import math
from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from database.archive import Archive
from database.grid import place_of_cell
from database.records import Elite, Standing, Step
from evolve.proposer import INSPIRATIONS
from evolve.remeasure import REMEASURE
from evolve.settings import Settings
from evolve.streams import stream
from kvolve import KvolveError

if TYPE_CHECKING:
    from numpy.random import Generator

ALL = 1_000_000
RANKS_TO_HALF = 3  # ranks over which the chance of a parent halves
REWARD, PENALTY = 1.0, 0.5  # Cully & Demiris 2018, section V
CHAIN = 10  # proposals of one chain of random restart
SEEDED = 0.2  # probability that the second candidate is a seed
DRAWN = 0.5  # share of the better elites among which inspirations are looked for


class Strategy(Protocol):
    """Chooses what a proposal starts from."""

    def choose(self, number: int, random: "Generator") -> tuple[str, str]:
        """Hashes of the parent of proposal `number` and of a second candidate to take from.

        Every random choice comes from `random`. Raises KvolveError while there is nothing to choose from.
        """

    def inspirations(self, number: int, parents: tuple[str, ...], random: "Generator") -> tuple[str, ...]:
        """Hashes of further candidates, for a proposer that reads them; not those of `parents`."""

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""


class MapElites:
    """Elites of the proposal's island (Mouret & Clune 2015, arXiv:1504.04909).

    The parent by `uniform`: every filled cell alike, as published. `rank`: three ranks halve the chance.
    `curiosity`: an elite whose offspring enter the grid is chosen more often, one whose offspring do not more
    rarely. The second candidate is of any filled cell, or a seed: what only seeds have stays to be taken.
    """

    def __init__(self, archive: Archive, selection: str, islands: int) -> None:
        self.archive = archive
        self.selection = selection
        self.islands = islands
        self.curiosity: defaultdict[str, float] = defaultdict(float)
        if selection == "curiosity":
            for step in archive.steps():
                self.learn(step)

    def choose(self, number: int, random: "Generator") -> tuple[str, str]:
        island = number % self.islands
        elites = self.archive.elites(island)
        if not elites:
            raise nothing_to_start_from()
        if self.selection == "uniform":
            first, second = (self.archive.sample_elite(island, random.integers).hash for _ in range(2))
        else:
            first, second = self._drawn(elites, random)
        return first, second

    def inspirations(self, number: int, parents: tuple[str, ...], random: "Generator") -> tuple[str, ...]:
        """Elites of the better half of the island that are far from the parent, and from each other."""
        elites = sorted(self.archive.elites(number % self.islands), key=_best_first)
        places = {elite.hash: place_of_cell(self.archive.run, elite.cell) for elite in elites}
        better = [elite.hash for elite in elites[: (len(elites) + 1) // 2] if elite.hash not in parents]
        # another half each time: the two that are farthest of all would always be the same
        open_to = [hash for hash in better if random.random() < DRAWN]
        shown, chosen = [places[hash] for hash in parents[:1] if hash in places], list[str]()
        while open_to and len(chosen) < INSPIRATIONS:
            far = max(
                open_to, key=lambda hash: min((math.dist(places[hash], one) for one in shown), default=0.0)
            )
            chosen.append(far)
            shown.append(places[far])
            open_to.remove(far)
        return tuple(chosen)

    @cached_property
    def seeds(self) -> list[str]:
        """Hashes of the seeds that have a score; nothing is chosen before all seeds are measured."""
        return [seed.hash for seed in seeds_of(self.archive)]

    def learn(self, step: Step) -> None:
        if step.parent is not None and step.operator != REMEASURE:
            self.curiosity[step.parent] += REWARD if step.entered else -PENALTY

    def _drawn(self, elites: list[Elite], random: "Generator") -> tuple[str, str]:
        import numpy as np

        if self.selection == "curiosity":
            curiosity = np.array([self.curiosity.get(elite.hash, 0.0) for elite in elites])
            # in proportion to what it is above the least curious, who keeps the weight of one failure
            chances = curiosity - curiosity.min() + PENALTY
        else:
            elites = sorted(elites, key=_best_first)
            chances = 0.5 ** (np.arange(len(elites)) / RANKS_TO_HALF)
        first = elites[int(random.choice(len(elites), p=chances / chances.sum()))]
        # The best are often of one family: what the second one is there for is what it has of its own.
        if self.seeds and random.random() < SEEDED:
            return first.hash, self.seeds[int(random.integers(len(self.seeds)))]
        return first.hash, elites[int(random.integers(len(elites)))].hash


def seeds_of(archive: Archive) -> list[Standing]:
    """The seeds that have a score, by number: noise may change their order by score."""
    return sorted(archive.leaderboard(ALL, "seed"), key=lambda seed: seed.number)


def _best_first(elite: Elite) -> tuple[float, int]:
    return -elite.score, elite.number


class _FromSeeds:
    """What the baselines share: the seeds that have a score, as it is now."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def seeds(self) -> list[Standing]:
        """Those that have a score, by number. Raises KvolveError if there is none."""
        seeds = seeds_of(self.archive)
        if not seeds:
            raise nothing_to_start_from()
        return seeds

    def inspirations(self, number: int, parents: tuple[str, ...], random: "Generator") -> tuple[str, ...]:
        """None: what these baselines show a model is the parent and a seed."""
        return ()

    def any_seed(self, random: "Generator") -> Standing:
        seeds = self.seeds()
        return seeds[int(random.integers(len(seeds)))]

    def learn(self, step: Step) -> None:
        """Nothing: the archive knows all that these strategies ask for."""


class BestOfN(_FromSeeds):
    """Best of N: every proposal starts from the best seed, whatever became of those before it.

    N independent samples of one and the same request, of which the best is kept: what the literature on
    sampling from language models calls best-of-N. The second candidate is any seed.
    """

    def choose(self, number: int, random: "Generator") -> tuple[str, str]:
        second = self.any_seed(random)
        return self.archive.leaderboard(1, "seed")[0].hash, second.hash


class HillClimb(_FromSeeds):
    """Hill climbing: every proposal starts from the best candidate so far, of equal ones the earliest."""

    def choose(self, number: int, random: "Generator") -> tuple[str, str]:
        best = self.archive.best()
        if best is None:
            raise nothing_to_start_from()
        return best.hash, self.any_seed(random).hash


class RandomRestart(_FromSeeds):
    """Random restart: hill climbing in chains of ten proposals, each chain from a seed drawn anew.

    As many chains are climbed side by side as proposals may be under way, so that the result that a chain
    needs next is always there.
    """

    def __init__(self, archive: Archive, seed: int, lanes: int, first: int) -> None:
        """`first` is the number of the first proposal that is no seed, `lanes` the chains side by side."""
        super().__init__(archive)
        self.seed = seed
        self.lanes = lanes
        self.first = first
        self.scored: dict[int, tuple[float, str]] = {}  # by number: score and hash
        for step in archive.steps():
            self.learn(step)

    def choose(self, number: int, random: "Generator") -> tuple[str, str]:
        climbed = (number - self.first) // self.lanes % CHAIN
        begin = number - climbed * self.lanes
        start = self.any_seed(stream(self.seed, begin, "restart"))
        score, hash = start.score, start.hash
        for earlier in range(begin, number, self.lanes):
            if earlier in self.scored and (score is None or self.scored[earlier][0] > score):
                score, hash = self.scored[earlier]
        return hash, self.any_seed(random).hash

    def learn(self, step: Step) -> None:
        if step.score is not None:
            self.scored[step.number] = step.score, step.hash
        self.scored.pop(step.number - (CHAIN + 1) * self.lanes, None)


def make_strategy(settings: Settings, archive: Archive, first: int) -> Strategy:
    """The strategy that the settings ask for; `first` is the number of the first proposal that is no seed."""
    match settings.strategy:
        case "map_elites":
            return MapElites(archive, settings.selection, settings.islands)
        case "best_of_n":
            return BestOfN(archive)
        case "hill_climb":
            return HillClimb(archive)
        case "random_restart":
            return RandomRestart(archive, settings.seed, settings.look_ahead, first)


def nothing_to_start_from() -> KvolveError:
    """What to say when no seed has a score."""
    return KvolveError(
        "No seed has a score on this recording, so there is nothing to start from. "
        "`kvolve inspect` shows why they failed."
    )
