"""The content hash is equal for runs that did the same, and for no others."""

import math
import struct
from dataclasses import replace

import pytest

from database import rows
from database.archive import Archive
from database.records import EvaluationRecord, ProposalRecord, RunRecord, candidate_hash

PARENT = candidate_hash("x = 0")
PROPOSALS = [
    ProposalRecord(0, 0, "seed", (), "x = 0"),
    ProposalRecord(1, 0, "tune", (PARENT,), "x = 1", "detail"),
    ProposalRecord(2, 1, "tune", (PARENT,), "x = 0"),
    ProposalRecord(3, 1, "diff", (PARENT,), "x = 3"),
    ProposalRecord(4, 1, "diff", (PARENT,), "x = 4"),
]
PLACE = {"index_share": 0.5, "locality": 0.5}
EVALUATIONS = [
    EvaluationRecord(
        "search", "v1", 0.1, behaviour="b", metrics={"z": 1.0, "a": math.nan}, descriptors=PLACE
    ),
    EvaluationRecord("search", "v1", 0.2, samples=b"s", descriptors=PLACE),
    EvaluationRecord("search", "v1", 0.1, behaviour="b", descriptors=PLACE, duplicate_of=PARENT),
    EvaluationRecord("search", "v1", failure="crash", message="at 0x7f"),
]


def fill(url: str, run: RunRecord, evaluations: list[EvaluationRecord], in_flight: int = 1) -> str:
    """Hash of an archive in which up to `in_flight` proposals wait for their evaluation."""
    archive = Archive.create(url, run)
    stored = 0
    for number, evaluation in enumerate(evaluations):
        for proposal in PROPOSALS[stored : number + in_flight]:
            archive.add_proposal(proposal)
        stored = max(stored, number + in_flight)
        archive.add_evaluation(number, evaluation)
    for proposal in PROPOSALS[stored:]:
        archive.add_proposal(proposal)
    archive.add_validation(PARENT, EvaluationRecord("validation", "w1", 0.3, metrics={"b": 1.0, "a": 2.0}))
    archive.close()
    archive = Archive.open(url, read_only=True)
    digest = archive.content_hash()
    archive.close()
    return digest


@pytest.fixture
def usual(url, run) -> str:
    return fill(url, run, EVALUATIONS)


def test_time_and_interleaving_do_not_matter(new_url, run, usual, monkeypatch):
    monkeypatch.setattr(rows.time, "time", lambda: 12.0)
    slower = [replace(evaluation, wall_s=9.0, message="at 0x80") for evaluation in EVALUATIONS]
    for in_flight in (2, 4, 5):
        assert fill(new_url(), run, slower, in_flight) == usual


def test_the_database_does_not_matter(tmp_path, run, usual):
    assert fill(f"sqlite:///{tmp_path / 'other.db'}", run, EVALUATIONS) == usual


def test_settings_that_do_not_decide_do_not_matter(new_url, run, usual):
    other = replace(run, settings_json='{"workers": 2}', kvolve_version="0.2.0")
    assert fill(new_url(), other, EVALUATIONS) == usual


def test_notation_of_a_number_does_not_matter(new_url, run, usual):
    whole = tuple(replace(axis, low=0, high=1) for axis in run.axes)
    assert fill(new_url(), replace(run, axes=whole), EVALUATIONS) == usual


def test_events_do_not_matter(url, usual):
    archive = Archive.open(url)
    archive.add_event("resume", "after a crash")
    assert archive.content_hash() == usual


def test_one_bit_of_a_score_matters(new_url, run, usual):
    (bits,) = struct.unpack(">q", struct.pack(">d", 0.2))
    (next_up,) = struct.unpack(">d", struct.pack(">q", bits + 1))
    changed = [EVALUATIONS[0], replace(EVALUATIONS[1], score=next_up), *EVALUATIONS[2:]]
    assert fill(new_url(), run, changed) != usual


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"problem": "kv_eviction"}, {"islands": 3}, {"migration_interval": 9}, {"axes": ()}],
)
def test_settings_that_decide_matter(new_url, run, usual, change):
    assert fill(new_url(), replace(run, **change), EVALUATIONS) != usual


@pytest.mark.parametrize(
    "change",
    [
        {"behaviour": "c"},
        {"samples": b"t"},
        {"split": "v2"},
        {"metrics": {"z": 1.0}},
        {"descriptors": PLACE | {"locality": 0.51}},
    ],
)
def test_everything_measured_matters(new_url, run, usual, change):
    changed = [EVALUATIONS[0], replace(EVALUATIONS[1], **change), *EVALUATIONS[2:]]
    assert fill(new_url(), run, changed) != usual


def test_validation_matters(url, usual):
    archive = Archive.open(url)
    archive.add_validation(PARENT, EvaluationRecord("holdout", "u1", 0.3))
    assert archive.content_hash() != usual
