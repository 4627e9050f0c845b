"""What is known is not evaluated again; who repeats whom does not depend on who was faster."""

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from database.archive import Archive
from database.records import DuplicateKind, Retests
from evaluators.problem import get_problem
from evolve import cascade as cascades
from evolve.cascade import Cascade
from evolve.loop import Loop
from evolve.proposer import Draft, Request
from evolve.run import create_archive
from evolve.settings import make_settings
from sandbox.task import Outcome
from tests.evolve.arithmetic import NAMES, SEEDS

PROBLEM = get_problem("token_selection")
INPUTS = PROBLEM.inputs(None)
PROPOSALS = 24
KINDS = 5  # behaviours of the proposals, so that most are duplicates


class Choosing:
    """Proposes programs of a few behaviours, some of them twice."""

    async def propose(self, request: Request, random: object) -> Draft:
        number = request.number - SEEDS
        kept = number if number % 4 else number // 2
        return Draft("tune", (request.parents[0].hash,), f"class Policy:\n    KEPT = {kept}\n")


class TablePool:
    """Answers by a table: behaviour and score follow from the number in a program, after a drawn time.

    With `collides`, programs that are alike on the probe differ on the second one and in the search.
    """

    def __init__(self, pace: int, collides: bool = False) -> None:
        self.random = random.Random(pace)
        self.collides = collides
        self.searched: list[str] = []

    async def submit(self, source: str, stage: str, sample: int = 0) -> Outcome:
        if stage == "search":
            self.searched.append(source)
        for _ in range(self.random.randint(0, 30)):
            await asyncio.sleep(0)
        drawn = random.Random(source)
        _, is_proposal, number = source.partition("KEPT = ")
        kind = f"kind {int(number) % KINDS}" if is_proposal else source
        if stage == "search" and kind == "kind 3" and int(number) < 8:
            return Outcome(None, "timeout", "", 0.0, 0.0)
        value = {
            "behaviour": source if self.collides and stage == "second_probe" else kind,
            "score": drawn.random() if self.collides else random.Random(kind).random(),
            "metrics": {},
            "descriptors": {d.name: random.Random(kind).uniform(d.low, d.high) for d in PROBLEM.descriptors},
            "feedback": "",
            "samples": [],
        }
        return Outcome(value, None, "", 0.0, 0.0)


def work(folder: Path, pool: TablePool) -> Archive:
    given = {"problem": PROBLEM.name, "start_with": NAMES, "max_evaluations": SEEDS + PROPOSALS}
    archive = create_archive(make_settings(given), PROBLEM, INPUTS, folder)
    loop = Loop(
        make_settings(given), Cascade(PROBLEM, INPUTS, archive, pool), archive, Choosing(), lambda *_: None
    )
    asyncio.run(loop.run())
    return archive


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_archive_does_not_depend_on_who_was_faster(pace: int, collides: bool) -> None:
    hashes = []
    for drawn in (0, pace):
        with TemporaryDirectory() as folder:
            archive = work(Path(folder), TablePool(drawn, collides))
            hashes.append(archive.content_hash())
            archive.close()
    assert hashes[0] == hashes[1]


def test_no_program_is_searched_twice(tmp_path):
    pool = TablePool(1)
    archive = work(tmp_path, pool)
    assert len(pool.searched) == len(set(pool.searched))
    assert archive.duplicates_by_operator()["tune"][DuplicateKind.EXACT] > 0


@pytest.mark.parametrize("collides", [False, True])
def test_retests_tell_agreement_from_collision(tmp_path, monkeypatch, collides):
    monkeypatch.setattr(cascades, "RETESTED", 1.0)
    archive = work(tmp_path, TablePool(1, collides))
    retests, kinds = archive.retests(), archive.duplicates_by_operator()["tune"]
    if collides:  # they are candidates of their own
        assert (retests.agreed, kinds[DuplicateKind.BEHAVIOURAL]) == (0, 0)
        assert retests.collided > 0
    else:
        assert retests == Retests(kinds[DuplicateKind.BEHAVIOURAL], 0)
        assert retests.agreed > 0
