"""The content hash of an archive: equal for two runs that did the same, whenever and on however many workers.

It covers what decides a run, and nothing that depends on the clock, on the machine or on the order in which
rows were written: no times, dollars, tokens, messages, events or row numbers. Every evaluation is stored with
a digest of its own, so that the hash of a million candidates takes seconds. Tables are read as ordered
streams, so that the memory does not grow with the archive.
"""

import hashlib
import math
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased

from database.records import EvaluationRecord, RunRecord
from database.schema import Candidate, Elite, Evaluation, Parent, Proposal, Sample

PAGE = {"yield_per": 10_000}


def content_hash(connection: Connection, run: RunRecord) -> str:
    """SHA-256, in hex, of a run's settings, proposals, evaluations, elites and further measurements."""
    digest = hashlib.sha256()
    axes = [field for axis in run.axes for field in (axis.name, float(axis.low), float(axis.high), axis.bins)]
    _feed(digest, "run", [(run.problem, run.seed, run.islands, run.migration_interval, *axes)])
    _feed(digest, "cells", run.centroids)
    _feed(digest, "proposals", _proposals(connection))
    _feed(digest, "parents", _parents(connection))
    _feed(digest, "elites", _elites(connection))
    _feed(digest, "validations", _validations(connection))
    _feed(digest, "samples", _samples(connection))
    return digest.hexdigest()


def digest_of(evaluation: EvaluationRecord) -> bytes:
    """What an evaluation adds to the content hash, 16 bytes.

    Not a number is None, as SQLite stores it, and names are sorted, as no database need do it.
    """
    measured = [
        (descriptor, name, None if math.isnan(value) else float(value))
        for descriptor, values in ((False, evaluation.metrics), (True, evaluation.descriptors))
        for name, value in sorted(values.items())
    ]
    score = None if evaluation.score is None else float(evaluation.score)
    decided = (evaluation.stage, evaluation.split, score, evaluation.failure, evaluation.behaviour)
    content = (*decided, evaluation.samples, evaluation.duplicate_of, evaluation.noisy, *measured)
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).digest()[:16]


def _feed(digest: "hashlib._Hash", name: str, rows: Iterable[Iterable[Any]]) -> None:
    """Adds rows in Python's own notation: it tells types apart, quotes strings, keeps all bits of a float."""
    digest.update(name.encode())
    for row in rows:
        digest.update(repr(tuple(row)).encode())


def _proposals(connection: Connection) -> Iterable[Iterable[Any]]:
    repeated = aliased(Candidate)
    query = (
        select(Proposal.number, Proposal.island, Proposal.operator, Candidate.hash, repeated.hash)
        .add_columns(Evaluation.digest, Proposal.duplicate_kind, Proposal.agreed, Proposal.score)
        .join(Candidate, Candidate.id == Proposal.candidate_id)
        .outerjoin(repeated, repeated.id == Proposal.duplicate_of_id)
        .outerjoin(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .order_by(Proposal.number)
    )
    return connection.execute(query, execution_options=PAGE)


def _parents(connection: Connection) -> Iterable[Iterable[Any]]:
    query = (
        select(Parent.number, Parent.position, Candidate.hash)
        .join(Candidate, Candidate.id == Parent.candidate_id)
        .order_by(Parent.number, Parent.position)
    )
    return connection.execute(query, execution_options=PAGE)


def _elites(connection: Connection) -> Iterable[Iterable[Any]]:
    query = select(Elite.island, Elite.position, Elite.cell, Elite.number, Elite.displaced)
    return connection.execute(query.order_by(Elite.island, Elite.position))


def _validations(connection: Connection) -> Iterable[Iterable[Any]]:
    """Evaluations that completed no proposal."""
    completing = select(Proposal.evaluation_id).where(Proposal.evaluation_id.is_not(None))
    query = (
        select(Candidate.hash, Evaluation.digest)
        .join(Candidate, Candidate.id == Evaluation.candidate_id)
        .where(Evaluation.id.not_in(completing))
    )
    return sorted(tuple(row) for row in connection.execute(query))


def _samples(connection: Connection) -> Iterable[Iterable[Any]]:
    query = (
        select(Candidate.hash, Sample.stage, Sample.split, Sample.number, Sample.score, Sample.failure)
        .add_columns(Sample.samples)
        .join(Candidate, Candidate.id == Sample.candidate_id)
    )
    return sorted((tuple(row) for row in connection.execute(query)), key=repr)
