"""A run whose every second proposal is hostile ends with all labels right and all honest candidates kept."""

import asyncio

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
SEEDS = len(PROBLEM.seeds())

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
    "exception": (policy("raise ValueError('x' * 1_000)"), "crash"),
    "endless recursion": (policy("return self.select(query, cache, budget, generator)"), "crash"),
    "8 GB of memory": (policy("kept = len(torch.ones(8, 2**28))"), "memory"),
    "8 GB in Python": (policy("kept = len([0] * 2**30)"), "memory"),
    "100 MB of output": (
        policy(
            "tokens = torch.arange(cache.length).repeat(1_500, 9)\nreturn tokens, torch.ones(tokens.shape)"
        ),
        "interface",
    ),
    "a socket": ("import socket\n" + policy(), "screen"),
    "a file": (policy("open('/etc/passwd')"), "screen"),
    "exit": (policy("raise SystemExit(0)"), "screen"),
    "syntax": (policy("if True print"), "screen"),
    "no policy": ("import torch\n\n\nclass Other:\n    pass\n", "interface"),
    "NaN": (
        policy("return torch.arange(kept).expand(9, -1), torch.full((9, kept), float('nan'))"),
        "invalid_output",
    ),
    "greed": (policy("kept = min(2 * kept + 1, cache.length)"), "over_budget"),
    "dice": (
        policy("kept = max(1, kept - int(torch.randint(9, (1,)))) if budget < 1 else kept"),
        "nondeterministic",
    ),
}


class Alternating:
    """Proposes a hostile and an honest candidate in turn."""

    def __init__(self) -> None:
        self.sources: list[tuple[str, str]] = []
        for number, (name, (source, _)) in enumerate(HOSTILE.items()):
            self.sources += [(name, source), ("honest", policy(sinks=10 + number))]

    async def propose(self, request: Request, random: object) -> Draft:
        operator, source = self.sources[request.number - SEEDS]
        return Draft(operator, (request.parents[0].hash,), source)


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Archive:
    folder = tmp_path_factory.mktemp("faults")
    settings = make_settings(
        {
            "problem": PROBLEM.name,
            "max_evaluations": SEEDS + 2 * len(HOSTILE),
            "wall_s": 5.0,
            "cpu_s": 3,
            "recording": "small",
        }
    )
    inputs = PROBLEM.inputs(None)
    made = create_archive(settings, PROBLEM, inputs, folder)

    async def search() -> None:
        pool = await open_pool(settings, PROBLEM, inputs)
        try:
            cascade = Cascade(PROBLEM, inputs, made, pool)
            await Loop(settings, cascade, made, Alternating(), lambda *_: None).run()
        finally:
            await pool.close()

    asyncio.run(search())
    made.close()
    return Archive.open(archive_url(folder / "archive.db"), read_only=True)


def test_the_run_goes_on_to_its_end(archive):
    assert archive.completed() == SEEDS + 2 * len(HOSTILE)
    assert archive.pending() == []


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_candidate_ends_as_a_labelled_failure(archive, name):
    (candidate,) = archive.candidates_of(name)
    assert candidate.evaluation.score is None
    assert (candidate.evaluation.failure, bool(candidate.evaluation.message)) == (HOSTILE[name][1], True)


def test_every_honest_candidate_has_its_score(archive):
    honest = archive.candidates_of("honest")
    assert len(honest) == len(HOSTILE)
    assert all(candidate.evaluation.score is not None for candidate in honest)
    assert len({candidate.evaluation.behaviour for candidate in honest}) == len(HOSTILE)
