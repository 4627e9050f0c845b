"""The end of a run: validation chooses the champion among the best, and its holdout figure is opened once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgpack
import numpy as np

from database.archive import Archive
from database.reader import Reader
from database.records import EvaluationRecord, Standing
from evaluators.problem import Problem
from evolve.cascade import Cascade
from evolve.statistics import Difference, paired_difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALL = 1_000_000


@dataclass(frozen=True)
class Entrant:
    """A candidate that was measured on validation."""

    hash: str
    name: str  # of the seed, or "" for a discovery
    role: str  # "seed", "bound" or "discovery"
    validation: EvaluationRecord
    holdout: EvaluationRecord | None


@dataclass(frozen=True)
class Finals:
    """The champion beside everybody who was measured on validation, best first."""

    champion: Entrant
    entrants: tuple[Entrant, ...]

    def rivals(self) -> tuple[Entrant, ...]:
        """The seeds that the champion has to beat."""
        return tuple(entrant for entrant in self.entrants if entrant.role == "seed")


async def hold_finals(
    cascade: Cascade, archive: Archive, finalists: int, announce: Callable[[str], None]
) -> Finals | None:
    """Measures the best candidates, all seeds and all bounds on validation, then the champion on holdout.

    What is measured already is not measured again: a resumed run goes on, and the holdout stays opened once.
    Returns None if nothing has a score.
    """
    chosen = (
        archive.leaderboard(finalists) + archive.leaderboard(ALL, "seed") + archive.leaderboard(ALL, "bound")
    )
    hashes = [
        hash for hash in dict.fromkeys(s.hash for s in chosen) if not archive.evaluation(hash, "validation")
    ]
    announce(f"Measuring the best candidates, the seeds and the bounds on validation ({len(hashes)})")
    await _measure(cascade, archive, hashes, "validation")
    finals = read_finals(archive)
    if finals is None:
        return None
    opened = dict.fromkeys(entrant.hash for entrant in (finals.champion, *finals.rivals()[:1]))
    opening = [hash for hash in opened if not archive.evaluation(hash, "holdout")]
    announce("Opening the holdout for the champion and the best seed")
    await _measure(cascade, archive, opening, "holdout")
    return read_finals(archive)


async def _measure(cascade: Cascade, archive: Archive, hashes: list[str], stage: str) -> None:
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
    entrants = []
    for standing in archive.measured("validation"):
        validation = archive.evaluation(standing.hash, "validation")
        if validation is not None and validation.score is not None:
            entrants.append(
                Entrant(
                    standing.hash,
                    _seed_name(archive, standing),
                    standing.operator if standing.operator in ("seed", "bound") else "discovery",
                    validation,
                    archive.evaluation(standing.hash, "holdout"),
                )
            )
    entrants.sort(key=lambda entrant: -(entrant.validation.score or 0.0))
    contenders = [entrant for entrant in entrants if entrant.role != "bound"]
    return Finals(contenders[0], tuple(entrants)) if contenders else None


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
