"""Small records to fill archives with."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from database.archive import Archive
from database.records import Axis, EvaluationRecord, ProposalRecord, RunRecord


@pytest.fixture
def run() -> RunRecord:
    axes = (Axis("index_share", 0.0, 1.0, 4), Axis("locality", 0.0, 1.0, 4))
    return RunRecord("token_selection", '{"seed": 7}', 7, axes, 2, 0, "0.1.0")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'archive.db'}"


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
