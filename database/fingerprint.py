"""The content hash of an archive: equal for two runs that did the same, whenever and on however many workers.

It covers what decides a run, and nothing that depends on the clock, on the machine or on the order in which
rows were written: no times, dollars, tokens, messages, events or row numbers. Tables are read as ordered
streams, so that the memory does not grow with the archive.
"""

import hashlib
import struct
from collections.abc import Iterable
from itertools import groupby

from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased

from database.records import RunRecord
from database.schema import Candidate, Elite, Evaluation, Metric, Parent, Proposal

Field = str | int | float | bytes | None


def content_hash(connection: Connection, run: RunRecord) -> str:
    """SHA-256, in hex, of a run's deciding settings, proposals, evaluations, elites and validations."""
    digest = hashlib.sha256()
    axes = [field for axis in run.axes for field in (axis.name, axis.low, axis.high, axis.bins)]
    _feed(digest, "run", [(run.problem, run.seed, run.islands, run.migration_interval, *axes)])
    _feed(digest, "proposals", _proposals(connection))
    _feed(digest, "parents", _parents(connection))
    _feed(digest, "metrics", _metrics(connection))
    _feed(digest, "elites", _elites(connection))
    _feed(digest, "validations", _validations(connection))
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", name: str, rows: Iterable[Iterable[Field]]) -> None:
    digest.update(_encode(name))
    for row in rows:
        digest.update(b"".join(map(_encode, row)) + b";")


def _encode(field: Field) -> bytes:
    """Type and length before the content, so that no two rows can be encoded alike; floats by their bits."""
    if field is None:
        return b"n"
    if isinstance(field, float):
        return b"f" + struct.pack(
            ">d", field + 0.0
        )  # adding turns -0.0, which SQLite does not keep, into 0.0
    content = field if isinstance(field, bytes) else str(field).encode()
    kind = b"i" if isinstance(field, int) else b"b" if isinstance(field, bytes) else b"s"
    return kind + struct.pack(">q", len(content)) + content


def _proposals(connection: Connection) -> Iterable[Iterable[Field]]:
    repeated, original = aliased(Candidate), aliased(Candidate)
    query = (
        select(Proposal.number, Proposal.island, Proposal.operator, Candidate.hash, repeated.hash)
        .add_columns(Evaluation.stage, Evaluation.split, Evaluation.score, Evaluation.failure)
        .add_columns(Evaluation.behaviour, Evaluation.samples, original.hash)
        .join(Candidate, Candidate.id == Proposal.candidate_id)
        .outerjoin(repeated, repeated.id == Proposal.duplicate_of_id)
        .outerjoin(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .outerjoin(original, original.id == Evaluation.duplicate_of_id)
        .order_by(Proposal.number)
    )
    return connection.execute(query, execution_options={"yield_per": 1000})


def _parents(connection: Connection) -> Iterable[Iterable[Field]]:
    query = (
        select(Parent.number, Parent.position, Candidate.hash)
        .join(Candidate, Candidate.id == Parent.candidate_id)
        .order_by(Parent.number, Parent.position)
    )
    return connection.execute(query, execution_options={"yield_per": 1000})


def _metrics(connection: Connection) -> Iterable[Iterable[Field]]:
    query = (
        select(Proposal.number, Metric.descriptor, Metric.name, Metric.value)
        .join(Metric, Metric.evaluation_id == Proposal.evaluation_id)
        .order_by(Proposal.number)
    )
    rows = connection.execute(query, execution_options={"yield_per": 1000})
    # Names are sorted here, because every database has its own idea of the order of strings.
    for _, measured in groupby(rows, key=lambda row: row.number):
        yield from sorted((row.number, row.descriptor, row.name, row.value) for row in measured)


def _elites(connection: Connection) -> Iterable[Iterable[Field]]:
    query = select(Elite.island, Elite.position, Elite.cell, Elite.number)
    return connection.execute(query.order_by(Elite.island, Elite.position))


def _validations(connection: Connection) -> Iterable[Iterable[Field]]:
    """Evaluations that completed no proposal, with their metrics."""
    query = (
        select(Candidate.hash, Evaluation.stage, Evaluation.split, Evaluation.score, Evaluation.failure)
        .add_columns(Evaluation.behaviour, Evaluation.samples, Metric.descriptor, Metric.name, Metric.value)
        .join(Candidate, Candidate.id == Evaluation.candidate_id)
        .outerjoin(Metric, Metric.evaluation_id == Evaluation.id)
        .outerjoin(Proposal, Proposal.evaluation_id == Evaluation.id)
        .where(Proposal.number.is_(None))
    )
    return sorted((tuple(row) for row in connection.execute(query)), key=repr)
