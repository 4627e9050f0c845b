"""A proposer that repeats itself costs no evaluation, and every repetition is recorded with its kind."""

import ast
import asyncio
import re
from collections import Counter

import pytest

from database.archive import Archive
from database.connection import archive_url
from database.records import DuplicateKind
from evaluators.problem import get_problem
from evolve.cascade import Cascade
from evolve.loop import Loop
from evolve.proposer import Draft, Request
from evolve.run import create_archive, open_pool
from evolve.settings import make_settings
from tests.integration.conftest import BEGUN, NAMES
from tests.llm.policies import POLICY

PROBLEM = get_problem("token_selection")
SEEDS = BEGUN
PROPOSALS = 60

REPETITIONS = (
    lambda source: source,
    lambda source: re.sub(r"\bfront\b", "opening", source).replace("room", "space"),
    lambda source: ast.unparse(ast.parse(source)),
)


class Repetitive:
    """Every third to fourth proposal repeats an earlier one, often the one before: verbatim, renamed or
    reformatted.
    """

    def __init__(self) -> None:
        self.repeated: dict[int, str] = {}
        self.sources: list[str] = []

    async def propose(self, request: Request, random: object) -> Draft:
        index = len(self.sources)
        if index % 10 in (3, 6, 9):
            earlier = self.sources[index - 1 if index % 2 else index // 3]
            operator, source = "parrot", REPETITIONS[index % 3](earlier)
        else:
            operator, source = "author", POLICY.format(first=5 + index)
        self.sources.append(source)
        return Draft(operator, (request.parents[0].hash,), source)


class CountingPool:
    """Passes everything on to a real pool and counts what is asked of it."""

    def __init__(self, pool) -> None:
        self.pool = pool
        self.submitted: Counter[str] = Counter()

    async def submit(self, source: str, stage: str, sample: int = 0):
        self.submitted[stage] += 1
        return await self.pool.submit(source, stage, sample)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Archive, Counter, int]:
    """The archive, what the pool was asked for to evaluate candidates, and how many were proposed."""
    folder = tmp_path_factory.mktemp("duplicates")
    given = {"problem": PROBLEM.name, "max_evaluations": SEEDS + PROPOSALS, "recording": "small"}
    given |= {"start_with": NAMES.split(",")}
    settings = make_settings(given)
    inputs = PROBLEM.inputs(None)
    made = create_archive(settings, PROBLEM, inputs, folder)

    async def search() -> Counter:
        pool = await open_pool(settings, PROBLEM, inputs)
        try:
            counting = CountingPool(pool)
            cascade = Cascade(PROBLEM, inputs, made, counting)
            await Loop(settings, cascade, made, Repetitive(), lambda *_: None).run()
            return counting.submitted
        finally:
            await pool.close()

    submitted = asyncio.run(search())
    made.close()
    archive = Archive.open(archive_url(folder / "archive.db"), read_only=True)
    again = archive.operator_counts()["remeasure"].proposals  # seeds whose scores are noisy
    submitted["search"] -= again
    return archive, submitted, PROPOSALS - again


def test_no_repetition_is_evaluated(finished):
    archive, submitted, proposed = finished
    new = SEEDS + proposed - archive.duplicates()
    assert submitted == {"probe": new, "search": new}


def test_every_repetition_is_recorded_with_its_kind_and_operator(finished):
    archive, _, proposed = finished
    kinds = archive.duplicates_by_operator()
    assert kinds.keys() == {"parrot"}
    assert kinds["parrot"][DuplicateKind.BEHAVIOURAL] == 0
    assert min(kinds["parrot"][DuplicateKind.EXACT], kinds["parrot"][DuplicateKind.NORMALISED]) > 0
    assert archive.duplicates() == sum(index % 10 in (3, 6, 9) for index in range(proposed)) > 10


def test_a_repetition_takes_over_the_result_of_the_first(finished):
    archive, _, _ = finished
    for candidate in archive.candidates_of("parrot"):
        first = candidate.evaluation.duplicate_of
        if first is not None:  # an exact repetition is the same candidate
            assert candidate.evaluation.score == archive.candidate(first).evaluation.score
