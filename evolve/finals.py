"""The end of a run: validation chooses the champion among the best, and its holdout figure is opened once."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgpack
import numpy as np

from database.archive import Archive
from database.reader import Reader
from database.records import Elite, EvaluationRecord, SampleRecord, Standing
from database.rows import estimate
from evaluators.evaluation import FailureKind
from evaluators.problem import Problem
from evolve.cascade import Cascade, sample_of
from evolve.remeasure import MOST, separated
from evolve.statistics import Difference, paired_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL = 1_000_000


@dataclass(frozen=True)
class Entrant:
    """A candidate that was measured on validation, perhaps several times: `validation` is the mean."""

    hash: str
    name: str  # of the seed, or "" for a discovery
    role: str  # "seed", "bound" or "discovery"
    validation: EvaluationRecord
    holdout: EvaluationRecord | None
    scores: tuple[float, ...]  # of all measurements on validation

    @property
    def standing(self) -> Elite:
        """What the measurements came to, as the sequential test takes it."""
        measured = estimate(list(enumerate(self.scores)))
        return Elite(0, (), self.hash, number=0, noisy=self.validation.noisy, **measured)


@dataclass(frozen=True)
class Finals:
    """The champion beside everybody who was measured on validation, best first."""

    champion: Entrant
    entrants: tuple[Entrant, ...]

    def rivals(self) -> tuple[Entrant, ...]:
        """The seeds that the champion has to beat."""
        return tuple(entrant for entrant in self.entrants if entrant.role == "seed")

    def contest(self) -> tuple[Entrant, ...]:
        """Who is to be measured once more before the champion is told from the second best."""
        first, *others = [entrant for entrant in self.entrants if entrant.role != "bound"]
        if not others:
            return ()
        standings = [entrant.standing for entrant in self.entrants]
        if separated(first.standing, others[0].standing, standings):
            return ()
        return tuple(one for one in (first, others[0]) if one.validation.noisy and len(one.scores) < MOST)


class Unhurried:
    """Stages for finals: what does not end in time is measured once more, where there is more of it.

    A candidate that just keeps its limits in the search may not where there are more cases. That is no reason
    to know nothing of it.
    """

    def __init__(self, cascade: Cascade, open_slower: Callable[[], Awaitable[Cascade]]) -> None:
        """`open_slower` gives a cascade whose limits are wider; it is called when somebody needs it."""
        self.cascade = cascade
        self.open_slower = open_slower
        self.slower: asyncio.Future[Cascade] | None = None

    async def stage(self, source: str, stage: str, sample: int = 0) -> EvaluationRecord:
        """The result of one stage; see `Cascade.stage`."""
        measured = await self.cascade.stage(source, stage, sample)
        if measured.failure != FailureKind.TIMEOUT.value:
            return measured
        if self.slower is None:
            self.slower = asyncio.ensure_future(self.open_slower())
        return await (await asyncio.shield(self.slower)).stage(source, stage, sample)


async def hold_finals(
    cascade: Unhurried,
    archive: Archive,
    finalists: int,
    floors: Collection[str],
    announce: Callable[[str], None],
) -> Finals | None:
    """Measures the best candidates on validation, then the champion on holdout.

    On validation there are as many discoveries as `finalists`, as many seeds, the floors, and all bounds.

    The champion and the second best are measured again until noise cannot have decided between them, or both
    have been measured often enough. What is measured already is not measured anew: a resumed run goes on, and
    the holdout stays opened once. Returns None if nothing has a score.
    """
    seeds = archive.leaderboard(ALL, "seed")
    low = [seed for seed in seeds[finalists:] if _seed_name(archive, seed) in floors]
    chosen = archive.leaderboard(finalists) + seeds[:finalists] + low + archive.leaderboard(ALL, "bound")
    hashes = [
        hash for hash in dict.fromkeys(s.hash for s in chosen) if not archive.evaluation(hash, "validation")
    ]
    announce(f"Measuring the best candidates, seeds and bounds on validation ({len(hashes)})")
    await _measure(cascade, archive, hashes, "validation")
    finals = read_finals(archive)
    if finals is None:
        return None
    finals = await _settle(cascade, archive, finals)
    opened = dict.fromkeys(entrant.hash for entrant in (finals.champion, *finals.rivals()[:1]))
    opening = [hash for hash in opened if not archive.evaluation(hash, "holdout")]
    announce("Opening the holdout for the champion and the best seed")
    await _measure(cascade, archive, opening, "holdout")
    return read_finals(archive)


async def _settle(cascade: Unhurried, archive: Archive, finals: Finals) -> Finals:
    """Measures the first two once more, again and again, as long as noise may have decided between them."""
    while contest := finals.contest():
        before = finals.champion
        measuring = [
            cascade.stage(archive.candidate(entrant.hash).source, "validation", len(entrant.scores))
            for entrant in contest
        ]
        for entrant, measured in zip(contest, await asyncio.gather(*measuring), strict=True):
            archive.add_sample(sample_of(entrant.hash, len(entrant.scores), measured))
        finals = read_finals(archive) or finals
        if finals.champion.hash != before.hash:
            text = f"champion {before.hash[:12]} gave way to {finals.champion.hash[:12]} when measured again"
            archive.add_event("undone", text)
    return finals


async def _measure(cascade: Unhurried, archive: Archive, hashes: list[str], stage: str) -> None:
    """Measures side by side and stores in the given order, so that the archive does not depend on who is
    first.
    """
    tasks = [asyncio.create_task(cascade.stage(archive.candidate(hash).source, stage)) for hash in hashes]
    try:
        for hash, task in zip(hashes, tasks, strict=True):
            archive.add_validation(hash, await task)
    finally:
        for task in tasks:
            task.cancel()


def read_finals(archive: Reader) -> Finals | None:
    """The finals as the archive has them; None while nobody was measured on validation."""
    found = (_entrant(archive, standing) for standing in archive.measured("validation"))
    entrants = [entrant for entrant in found if entrant is not None]
    entrants.sort(key=lambda entrant: -(entrant.validation.score or 0.0))
    contenders = [entrant for entrant in entrants if entrant.role != "bound"]
    return Finals(contenders[0], tuple(entrants)) if contenders else None


def _entrant(archive: Reader, standing: Standing) -> Entrant | None:
    """A candidate as validation found it; None for one that failed there, be it in a single measurement."""
    validation = archive.evaluation(standing.hash, "validation")
    further = archive.samples(standing.hash, "validation")
    if validation is None or validation.score is None or any(sample.failure for sample in further):
        return None
    return Entrant(
        standing.hash,
        _seed_name(archive, standing),
        standing.operator if standing.operator in ("seed", "bound") else "discovery",
        _mean(validation, further),
        archive.evaluation(standing.hash, "holdout"),
        (validation.score, *(sample.score for sample in further if sample.score is not None)),
    )


def _mean(first: EvaluationRecord, further: list[SampleRecord]) -> EvaluationRecord:
    """An evaluation with the mean of all measurements: the score, and the figures of each context."""
    if not further or first.score is None:
        return first
    scores = [first.score, *(sample.score for sample in further if sample.score is not None)]
    measured = [first.samples, *(sample.samples for sample in further)]
    figures = np.mean([msgpack.unpackb(packed) for packed in measured], axis=0)
    return replace(first, score=float(np.mean(scores)), samples=msgpack.packb(figures.tolist()))


def _seed_name(archive: Reader, standing: Standing) -> str:
    return archive.candidate(standing.hash).proposal.detail


def samples(evaluation: EvaluationRecord) -> "NDArray[np.float64]":
    """The figures per context of an evaluation, [contexts, ...]."""
    return np.array(msgpack.unpackb(evaluation.samples))


def lead(problem: Problem, champion: Entrant, rival: Entrant, stage: str = "validation") -> Difference:
    """How far the champion is ahead of a rival on the same contexts."""
    first = champion.validation if stage == "validation" else champion.holdout
    second = rival.validation if stage == "validation" else rival.holdout
    if first is None or second is None:
        raise ValueError(f"both have to be measured on {stage}")
    return paired_difference(samples(first), samples(second), problem.score_of)
