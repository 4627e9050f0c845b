"""A proposer and a pool that answer by arithmetic, in any order: hundreds of whole runs in a few seconds.

Scores come from the text of a candidate. How long anybody takes is counted in turns of the event loop and
drawn by `pace`, so that a test can try many orders of events without waiting.
"""

import asyncio
import hashlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from database.archive import Archive
from database.connection import archive_url
from database.records import CallRecord, Effort, Step
from evaluators.problem import get_problem
from evolve.cascade import Cascade
from evolve.loop import Loop
from evolve.proposer import Draft, Request, Reservation
from evolve.run import create_archive
from evolve.settings import Settings, make_settings
from sandbox.task import Outcome

if TYPE_CHECKING:
    from numpy.random import Generator

PROBLEM = get_problem("token_selection")
INPUTS = PROBLEM.inputs(None)
NAMES = (  # what the runs begin with
    "quest",
    "quest_sampled",
    "recent_window",
    "simhash",
    "simhash_sampled",
    "sparq",
    "sparq_sampled",
    "squeezed_attention",
    "squeezed_attention_sampled",
    "streaming_llm",
    "uniform_random",
)
SEEDS = len(NAMES) + len(PROBLEM.bounds)


class Pace:
    """Draws how many turns something takes; with `slowest` 0 everything is there at once."""

    def __init__(self, seed: int = 0, slowest: int = 0) -> None:
        self.random = random.Random(seed)
        self.slowest = slowest

    async def pass_time(self) -> None:
        for _ in range(self.random.randint(0, self.slowest)):
            await asyncio.sleep(0)


class PayingProposer:
    """Each proposal takes some of its reservation: a drawn part of `tokens` and `usd`, or all of it. Each is
    better than the one before it by `gain`, luck aside.
    """

    def __init__(
        self, pace: Pace, tokens: int = 0, usd: float = 0.0, whole: bool = False, gain: float = 0.05
    ) -> None:
        self.pace = pace
        self.most = Reservation(tokens, usd)
        self.whole = whole
        self.gain = gain
        self.archive: Archive  # where calls are stored
        self.calls: list[int] = []
        self.under_way = 0
        self.most_under_way = 0

    def begin(self, archive: Archive) -> None:
        """Takes the archive of a run, before it is worked on."""
        self.archive = archive

    def reservation(self, request: Request) -> Reservation:
        return self.most

    async def propose(self, request: Request, random: object) -> Draft:
        self.calls.append(request.number)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await self.pace.pass_time()
        self.under_way -= 1
        parents = [parent.hash for parent in request.parents]
        part = 1.0 if self.whole else random.random()
        source = f"LATER = {request.number * self.gain}\nPARENTS = {' '.join(parents)!r}\n"
        tokens, usd = int(self.most.tokens * part), self.most.usd * part
        if self.archive.calls(request.number):  # paid for before the run was killed
            return Draft("rewrite", (parents[0],), source)
        self.archive.add_call(CallRecord(request.number, 0, "", "", source, tokens, cost_usd=usd))
        return Draft("rewrite", (parents[0],), source, tokens=tokens, cost_usd=usd)


class ReadingProposer(PayingProposer):
    """Makes one to three proposals at a time. How many, and of what, follows from the archive and from what
    was learned of the results, as it was when the parents were chosen.
    """

    def __init__(self, pace: Pace) -> None:
        super().__init__(pace, tokens=100)
        self.learned: list[tuple[str, float]] = []

    def begin(self, archive: Archive) -> None:
        super().begin(archive)
        for step in archive.latest_steps(5):
            self.learn(step)

    def learn(self, step: Step) -> None:
        if step.effort.model:
            self.learned.append((step.hash, step.gain))

    def prepare(self, request: Request, known: int, random: "Generator") -> Request:
        failures = tuple(self.archive.failed_changes(request.parents[0].hash, known, 2))
        request = replace(request, failures=failures)
        if request.choice:
            return request
        drafts, lately = 1 + int(random.integers(3)), self.learned[-5:]
        return replace(request, choice=repr((drafts, lately)), drafts=drafts)

    async def propose(self, request: Request, random: object) -> Draft:
        draft = await super().propose(request, random)
        told = [failure.message for failure in request.failures]
        more = [
            replace(draft, source=f"{draft.source}# {n} {request.choice} {told}\n", effort=Effort("model", 7))
            for n in range(request.drafts)
        ]
        first = replace(more[0], tokens=draft.tokens, cost_usd=draft.cost_usd)
        return replace(first, more=tuple(replace(one, tokens=0, cost_usd=0.0) for one in more[1:]))


class ArithmeticPool:
    """With `noise`, each measurement of a candidate adds a normal random number of this deviation."""

    def __init__(self, pace: Pace, noise: float = 0.0) -> None:
        self.pace = pace
        self.noise = noise
        self.measured: Counter[str] = Counter()  # in the search

    async def start(self) -> None:
        pass

    def submit(self, source: str, stage: str, sample: int = 0) -> asyncio.Future[Outcome]:
        if stage == "search":
            self.measured[source] += 1
        return asyncio.ensure_future(self._outcome(source, sample))

    async def _outcome(self, source: str, sample: int) -> Outcome:
        await self.pace.pass_time()
        fails, drawn = _drawn(source)
        if fails:
            return Outcome(None, "crash", "drawn", 0.0, 0.0)
        luck = random.Random(f"{sample} {source}").gauss(0, self.noise)
        value = {
            "behaviour": hashlib.sha256(source.encode()).hexdigest(),
            "score": drawn.gauss(0, 1) + _later(source) + luck,
            "noisy": self.noise > 0,
            "metrics": {},
            "descriptors": {d.name: drawn.uniform(d.low, d.high) for d in PROBLEM.descriptors},
            "feedback": "",
            "samples": [],
        }
        return Outcome(value, None, "", 0.0, 0.0)

    async def close(self) -> None:
        pass


def true_score(source: str) -> float:
    """A score without noise. A proposal gains by being late, so that every run gets better."""
    return _drawn(source)[1].gauss(0, 1) + _later(source)


def _drawn(source: str) -> tuple[bool, random.Random]:
    """Whether a candidate fails, and what its score, then its descriptors are drawn from."""
    drawn = random.Random(source)
    return drawn.random() < 0.1, drawn


def _later(source: str) -> float:
    first, _, value = source.partition("\n")[0].partition(" = ")
    return float(value) if first == "LATER" else 0.0


class Run:
    """A run in a folder, worked on in stretches: each one opens the archive anew, as `resume` does."""

    def __init__(
        self,
        folder: Path,
        noise: float = 0.0,
        proposer: type[PayingProposer] = PayingProposer,
        **given: object,
    ) -> None:
        self.folder = folder
        self.noise = noise
        self.proposer = proposer
        usual = {"problem": PROBLEM.name, "start_with": NAMES, "seed": 5, "max_evaluations": 40}
        self.given = usual | given

    def settings(self, **changed: object) -> Settings:
        return make_settings(self.given | changed)

    def work(
        self,
        pace: Pace | None = None,
        proposer: PayingProposer | None = None,
        killed_after: int | None = None,
        **changed: object,
    ) -> str | None:
        """Works until a limit is reached, or for `killed_after` turns; returns the reason of the end."""
        pace = pace or Pace()
        proposer = proposer or self.proposer(pace)
        settings = self.settings(**changed)
        archive = self._archive(settings)
        try:
            proposer.begin(archive)
            self.pool = ArithmeticPool(pace, self.noise)
            cascade = Cascade(PROBLEM, INPUTS, archive, self.pool)
            loop = Loop(settings, cascade, archive, proposer, lambda *_: None)
            asyncio.run(_work(loop, killed_after))
            return loop.reason
        finally:
            archive.close()

    def _archive(self, settings: Settings) -> Archive:
        if (self.folder / "archive.db").exists():
            return Archive.open(archive_url(self.folder / "archive.db"))
        self.folder.mkdir(exist_ok=True)
        return create_archive(settings, PROBLEM, INPUTS, self.folder)

    @property
    def archive(self) -> Archive:
        return Archive.open(archive_url(self.folder / "archive.db"), read_only=True)


async def _work(loop: Loop, killed_after: int | None) -> None:
    task = asyncio.create_task(loop.run())
    if killed_after is None:
        await task
        return
    for _ in range(killed_after):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
