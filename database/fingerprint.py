"""The content hash of an archive: equal for two runs that did the same, whenever and on however many workers.

It covers what decides a run, and nothing that depends on the clock, on the machine or on the order in which
rows were written: no times, dollars, tokens, messages, events or row numbers. Tables are read as ordered
streams, so that the memory does not grow with the archive.
"""

import hashlib
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased

from database.records import RunRecord
from database.schema import Candidate, Elite, Evaluation, Metric, Parent, Proposal


def content_hash(connection: Connection, run: RunRecord) -> str:
    """SHA-256, in hex, of a run's deciding settings, proposals, evaluations, elites and validations."""
    digest = hashlib.sha256()
    axes = [field for axis in run.axes for field in (axis.name, float(axis.low), float(axis.high), axis.bins)]
    _feed(digest, "run", [(run.problem, run.seed, run.islands, run.migration_interval, *axes)])
    _feed(digest, "proposals", _proposals(connection))
    _feed(digest, "parents", _parents(connection))
    _feed(digest, "metrics", _metrics(connection))
    _feed(digest, "elites", _elites(connection))
    _feed(digest, "validations", _validations(connection))
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", name: str, rows: Iterable[Iterable[Any]]) -> None:
    """Adds rows in Python's own notation: it tells types apart, quotes strings, keeps all bits of a float."""
    digest.update(name.encode())
    for row in rows:
        digest.update(repr(tuple(row)).encode())


def _proposals(connection: Connection) -> Iterable[Iterable[Any]]:
    repeated, original = aliased(Candidate), aliased(Candidate)
    query = (
        select(Proposal.number, Proposal.island, Proposal.operator, Candidate.hash, repeated.hash)
        .add_columns(Evaluation.stage, Evaluation.split, Evaluation.score, Evaluation.failure)
        .add_columns(Evaluation.behaviour, Evaluation.samples, original.hash)
        .add_columns(Proposal.duplicate_kind, Proposal.agreed)
        .join(Candidate, Candidate.id == Proposal.candidate_id)
        .outerjoin(repeated, repeated.id == Proposal.duplicate_of_id)
        .outerjoin(Evaluation, Evaluation.id == Proposal.evaluation_id)
        .outerjoin(original, original.id == Evaluation.duplicate_of_id)
        .order_by(Proposal.number)
    )
    return connection.execute(query, execution_options={"yield_per": 1000})


def _parents(connection: Connection) -> Iterable[Iterable[Any]]:
    query = (
        select(Parent.number, Parent.position, Candidate.hash)
        .join(Candidate, Candidate.id == Parent.candidate_id)
        .order_by(Parent.number, Parent.position)
    )
    return connection.execute(query, execution_options={"yield_per": 1000})


def _metrics(connection: Connection) -> Iterable[Iterable[Any]]:
    query = (
        select(Proposal.number, Metric.descriptor, Metric.name, Metric.value)
        .join(Metric, Metric.evaluation_id == Proposal.evaluation_id)
        .order_by(Proposal.number)
    )
    rows = connection.execute(query, execution_options={"yield_per": 1000})
    # Names are sorted here, because every database has its own idea of the order of strings.
    for _, measured in groupby(rows, key=itemgetter(0)):
        yield sorted(map(tuple, measured))


def _elites(connection: Connection) -> Iterable[Iterable[Any]]:
    query = select(Elite.island, Elite.position, Elite.cell, Elite.number)
    return connection.execute(query.order_by(Elite.island, Elite.position))


def _validations(connection: Connection) -> Iterable[Iterable[Any]]:
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
