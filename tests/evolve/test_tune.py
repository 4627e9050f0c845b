"""Nested searches: CMA-ES over the numbers of a program, told from the archive alone."""

import asyncio
import hashlib
import math
import random
import re
from pathlib import Path

import pytest

from database.archive import Archive
from database.connection import archive_url
from evolve.builtin import BuiltinProposer
from evolve.builtin.drafting import Drafting
from evolve.builtin.operators import OPERATORS
from evolve.builtin.tune import TUNE
from evolve.cascade import Cascade
from evolve.loop import Loop
from evolve.run import create_archive
from evolve.settings import make_settings
from sandbox.screen import screen
from sandbox.task import Outcome
from tests.evolve.arithmetic import INPUTS, NAMES, PROBLEM, SEEDS, ArithmeticPool, Pace

EVALUATIONS = SEEDS + 150
FEW = ("vary", "crossover")  # beside more of them, searches are too few
NUMBER = re.compile(r"^[A-Z_0-9]+ = ([0-9.e-]+)", re.MULTILINE)


class Bowl(ArithmeticPool):
    """Scores that are best where every number of a program is near 5."""

    async def _outcome(self, source: str, sample: int) -> Outcome:
        await self.pace.pass_time()
        losses = [math.log(float(text) / 5 + 1e-9) ** 2 for text in NUMBER.findall(source)]
        drawn = random.Random(hashlib.sha256(source.encode()).hexdigest())
        value = {
            "behaviour": hashlib.sha256(source.encode()).hexdigest(),
            "score": -math.sqrt(sum(losses) + 1.0),
            "noisy": False,
            "metrics": {},
            "descriptors": {d.name: drawn.uniform(d.low, d.high) for d in PROBLEM.descriptors},
            "feedback": "",
            "samples": [],
        }
        return Outcome(value, None, "", 0.0, 0.0)


class Run:
    """A run of the built-in proposer in a folder."""

    def __init__(self, folder: Path, strategy: str = "map_elites") -> None:
        self.folder = folder
        given = {"problem": PROBLEM.name, "start_with": NAMES, "seed": 5, "strategy": strategy}
        self.settings = make_settings(given | {"max_evaluations": EVALUATIONS})

    @property
    def archive(self) -> Archive:
        return Archive.open(archive_url(self.folder / "archive.db"), read_only=True)

    def work(self, pace: Pace, killed_after: int | None = None) -> None:
        """Works to the end, or until so many results are in the archive."""
        self.folder.mkdir(exist_ok=True)
        place = self.folder / "archive.db"
        archive = (
            Archive.open(archive_url(place))
            if place.exists()
            else create_archive(self.settings, PROBLEM, INPUTS, self.folder)
        )
        try:
            asyncio.run(self._work(archive, pace, killed_after))
        finally:
            archive.close()

    async def _work(self, archive: Archive, pace: Pace, killed_after: int | None) -> None:
        operators = tuple(one for one in OPERATORS if one.name in FEW)
        drafting = Drafting(lambda source: not screen(source, PROBLEM.language), operators)
        proposer = BuiltinProposer(archive, drafting, adapts=self.settings.strategy != "best_of_n")
        killed = asyncio.Event()

        def observe(*_: object) -> None:
            if killed_after is not None and archive.completed() >= killed_after:
                killed.set()

        loop = Loop(self.settings, Cascade(PROBLEM, INPUTS, archive, Bowl(pace)), archive, proposer, observe)
        running = asyncio.create_task(loop.run())
        if killed_after is not None:
            await killed.wait()
            running.cancel()
            await asyncio.wait([running])
        else:
            await running


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    run = Run(tmp_path_factory.mktemp("tuned") / "run")
    run.work(Pace())
    return run


def test_generations_of_a_search_come_nearer_to_its_best(finished):
    archive = finished.archive
    tuned = archive.latest_steps(EVALUATIONS, TUNE)
    by_root: dict[str, list[float]] = {}
    for step in tuned:
        by_root.setdefault(step.parent or "", []).append(-9.0 if step.score is None else step.score)
    long = {root: scores for root, scores in by_root.items() if len(scores) >= 12}
    assert any(
        max(scores[len(scores) // 2 :]) > max(scores[: len(scores) // 2])
        and max(scores) > archive.candidate(root).evaluation.score
        for root, scores in long.items()
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_the_archive_does_not_depend_on_who_is_faster(finished, seed, tmp_path):
    again = Run(tmp_path / "again")
    again.work(Pace(seed, 20))
    assert again.archive.content_hash() == finished.archive.content_hash()


def test_a_killed_run_goes_on_with_its_searches(finished, tmp_path):
    killed = Run(tmp_path / "killed")
    for results in range(SEEDS + 11, EVALUATIONS, 31):
        killed.work(Pace(results, 20), killed_after=results)
    killed.work(Pace(3, 20))
    assert killed.archive.content_hash() == finished.archive.content_hash()


def test_best_of_n_neither_tunes_nor_learns(tmp_path):
    run = Run(tmp_path / "baseline", "best_of_n")
    run.work(Pace())
    steps = run.archive.latest_steps(EVALUATIONS)
    assert TUNE not in {step.operator for step in steps}
    assert len({step.parent for step in steps}) == 1
