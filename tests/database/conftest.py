"""Places for archives in files and at a real PostgreSQL server, and small records to fill them with."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from database.archive import Archive
from database.records import Axis, EvaluationRecord, ProposalRecord, RunRecord


@pytest.fixture
def run() -> RunRecord:
    axes = (Axis("index_share", 0.0, 1.0, 4), Axis("locality", 0.0, 1.0, 4))
    return RunRecord("token_selection", '{"seed": 7}', 7, axes, 2, 0, "0.1.0")


SCHEMAS = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes the URL of a place where no archive is yet."""
    if request.param == "sqlite":
        numbers = count()
        return lambda: f"sqlite:///{tmp_path}/{next(numbers) or 'archive'}.db"
    server = request.getfixturevalue("postgresql")
    return lambda: f"{server}?schema=test_{next(SCHEMAS)}"


@pytest.fixture
def url(new_url: Callable[[], str]) -> str:
    return new_url()


@pytest.fixture
def archive(url: str, run: RunRecord) -> Iterator[Archive]:
    archive = Archive.create(url, run)
    yield archive
    archive.close()


@pytest.fixture
def propose() -> Callable[..., ProposalRecord]:
    def propose(number: int, source: str | None = None, **fields: object) -> ProposalRecord:
        given = {"island": 0, "operator": "tune", "parents": ()} | fields
        return ProposalRecord(number, source=f"x = {number}" if source is None else source, **given)

    return propose


@pytest.fixture
def evaluate() -> Callable[..., EvaluationRecord]:
    def evaluate(score: float | None, share: float = 0.5, **fields: object) -> EvaluationRecord:
        given = {
            "stage": "search",
            "split": "v1",
            "descriptors": {"index_share": share, "locality": 0.5},
        } | fields
        return EvaluationRecord(score=score, failure="crash" if score is None else None, **given)

    return evaluate
