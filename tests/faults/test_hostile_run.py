"""A run with hostile and slow candidates ends with the same honest ones as a run without them."""

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from database.archive import Archive
from database.connection import archive_url
from evaluators.problem import get_problem
from evolve.cascade import Cascade
from evolve.loop import Loop
from evolve.proposer import Draft, Request
from evolve.run import create_archive, open_pool
from evolve.settings import make_settings

PROBLEM = get_problem("token_selection")
NAMES = ("quest", "simhash", "sparq_sampled", "streaming_llm")
SEEDS = len(NAMES) + len(PROBLEM.bounds)

POLICY = """
import torch

SINKS = {sinks}


class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)
{body}
        sinks = torch.arange(min(SINKS, kept))
        recent = torch.arange(cache.length - (kept - len(sinks)), cache.length)
        tokens = torch.cat([sinks, recent]).expand(cache.heads, -1)
        return tokens, torch.ones(tokens.shape)
"""


def policy(body: str = "pass", sinks: int = 4) -> str:
    return POLICY.format(sinks=sinks, body="\n".join(" " * 8 + line for line in body.split("\n")))


HOSTILE = {
    "endless loop": (policy("while True:\n    kept += 1"), "timeout"),
    "endless loop in C": (policy("sum(1 for _ in range(10**12))"), "timeout"),
    "endless product in C": (policy("torch.ones(6_000, 6_000) @ torch.ones(6_000, 6_000 * 4)"), "timeout"),
    "exception of 100 MB": (policy("raise ValueError('x' * 100_000_000)"), "crash"),
    "endless recursion": (policy("return self.select(query, cache, budget, generator)"), "crash"),
    "8 GB of memory": (policy("kept = len(torch.ones(8, 2**28))"), "memory"),
    "8 GB in Python": (policy("kept = len([0] * 2**30)"), "memory"),
    "100 MB of output": (
        policy(
            "tokens = torch.arange(cache.length).repeat(1_500, 9)\nreturn tokens, torch.ones(tokens.shape)"
        ),
        "interface",
    ),
    "a flood of output": (policy("while True:\n    print('x' * 1_000)"), "screen"),
    "a socket": ("import socket\n" + policy(), "screen"),
    "a file": (policy("open('/etc/passwd')"), "screen"),
    "the end of its process": ("import os\n" + policy("os.close(3)"), "screen"),
    "SystemExit": (policy("raise SystemExit(0)"), "screen"),
    "KeyboardInterrupt": (policy("raise KeyboardInterrupt"), "screen"),
    "syntax": (policy("if True print"), "syntax"),
    "no policy": ("import torch\n\n\nclass Other:\n    pass\n", "interface"),
    "NaN": (
        policy("return torch.arange(kept).expand(9, -1), torch.full((9, kept), float('nan'))"),
        "invalid_output",
    ),
    "infinity": (policy("kept = int(float('inf'))"), "crash"),
    "greed": (policy("kept = min(2 * kept + 1, cache.length)"), "over_budget"),
    "dice": (
        policy("kept = max(1, kept - int(torch.randint(9, (1,)))) if budget < 1 else kept"),
        "nondeterministic",
    ),
}
HONEST = 3 * len(HOSTILE)
SLOW = "sum(n for n in range(200_000))"  # some ten milliseconds, in each of a hundred decode steps


def honest() -> Iterator[tuple[str, str]]:
    """As many candidates as are needed, all of which decide differently; every third is slow."""
    for number in range(HONEST):
        yield "honest", policy(SLOW if number % 3 == 0 else "pass", sinks=5 + number)


def hostile() -> Iterator[tuple[str, str]]:
    """The same candidates in the same order, with a hostile one behind every third."""
    fair = honest()
    for name, (source, _) in HOSTILE.items():
        yield from islice(fair, 3)
        yield name, source


class Reading:
    """A proposer that reads from a list."""

    def __init__(self, proposals: Iterator[tuple[str, str]]) -> None:
        self.proposals = list(proposals)

    async def propose(self, request: Request, random: object) -> Draft:
        operator, source = self.proposals[request.number - SEEDS]
        return Draft(operator, (request.parents[0].hash,), source)


def archive_of(proposer: Reading, folder: Path) -> Archive:
    """The archive of a run without migration, in which the numbers of proposals would show."""
    settings = make_settings(
        {
            "problem": PROBLEM.name,
            "max_evaluations": SEEDS + len(proposer.proposals),
            "islands": 1,
            "migration_interval": 0,
            "wall_s": 5.0,
            "cpu_s": 2,
            "recording": "small",
            "start_with": NAMES,
        }
    )
    inputs = PROBLEM.inputs(None)
    made = create_archive(settings, PROBLEM, inputs, folder)

    async def search() -> None:
        pool = await open_pool(settings, PROBLEM, inputs)
        try:
            cascade = Cascade(PROBLEM, inputs, made, pool)
            await Loop(settings, cascade, made, proposer, lambda *_: None).run()
        finally:
            await pool.close()

    asyncio.run(search())
    made.close()
    return Archive.open(archive_url(folder / "archive.db"), read_only=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Archive:
    return archive_of(Reading(hostile()), tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def peaceful(tmp_path_factory) -> Archive:
    return archive_of(Reading(honest()), tmp_path_factory.mktemp("peaceful"))


def test_the_run_goes_on_to_its_end(archive):
    assert archive.completed() == SEEDS + HONEST + len(HOSTILE)
    assert archive.pending() == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_candidate_ends_as_a_labelled_failure(archive, name):
    (candidate,) = archive.candidates_of(name)
    assert candidate.evaluation.score is None
    assert (candidate.evaluation.failure, bool(candidate.evaluation.message)) == (HOSTILE[name][1], True)
    assert len(candidate.evaluation.message) < 3_000


def test_every_honest_candidate_has_its_score(archive):
    found = archive.candidates_of("honest")
    assert len(found) == HONEST
    assert all(candidate.evaluation.score is not None for candidate in found)
    assert len({candidate.evaluation.behaviour for candidate in found}) == HONEST


def figures(archive: Archive) -> list[tuple[object, ...]]:
    """All that is known of the honest candidates, but for the time that they took."""
    return [
        (c.hash, c.source, e.behaviour, e.score, e.metrics, e.descriptors, e.feedback, e.samples)
        for c in archive.candidates_of("honest")
        for e in [c.evaluation]
    ]


def test_a_quarter_of_hostile_candidates_changes_nothing_about_the_honest_ones(archive, peaceful):
    assert figures(archive) == figures(peaceful)


def test_a_quarter_of_hostile_candidates_changes_no_elite(archive, peaceful):
    elites, expected = (
        {(elite.cell, elite.hash, elite.score) for elite in made.elites(0)} for made in (archive, peaceful)
    )
    assert elites == expected


def test_no_worker_was_lost_to_a_candidate(archive):
    assert not any(
        "workers died" in c.evaluation.message for name in HOSTILE for c in archive.candidates_of(name)
    )
