"""Rows of the tables: how proposals and evaluations are written, and how the writer's memory is read back."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, func, insert, select

from database import schema
from database.grid import Grid
from database.records import CallRecord, Elite, EvaluationRecord, ProposalRecord
from database.texts import Texts


@dataclass(frozen=True)
class Pending:
    """What the writer has to know of a proposal to complete it."""

    candidate_id: int
    hash: str
    island: int


def store_proposal(connection: Connection, texts: Texts, proposal: ProposalRecord, hash: str) -> int:
    """Writes a proposal, its parents, and a source that is new; returns the candidate's row.

    Raises ValueError when the number is taken or a parent is unknown.
    """
    taken = select(schema.Proposal.number).where(schema.Proposal.number == proposal.number)
    if connection.scalar(taken) is not None:
        raise ValueError(f"proposal {proposal.number} is stored already")
    candidate_id = find_candidate(connection, hash)
    if candidate_id is None:
        new = {"hash": hash, "source": texts.pack(proposal.source)}
        candidate_id = _insert_row(connection, schema.Candidate, new)
    row = {
        "number": proposal.number,
        "island": proposal.island,
        "operator": proposal.operator,
        "candidate_id": candidate_id,
        "detail": proposal.detail,
    }
    connection.execute(insert(schema.Proposal), row)
    parents = [
        {
            "number": proposal.number,
            "position": position,
            "candidate_id": require_candidate(connection, parent),
        }
        for position, parent in enumerate(proposal.parents)
    ]
    if parents:
        connection.execute(insert(schema.Parent), parents)
    return candidate_id


def store_call(connection: Connection, texts: Texts, call: CallRecord) -> None:
    """Writes a model call. Raises ValueError when there is one of this number and position already."""
    here = (schema.ModelCall.number == call.number) & (schema.ModelCall.position == call.position)
    if connection.scalar(select(schema.ModelCall.number).where(here)) is not None:
        raise ValueError(f"call {call.position} of proposal {call.number} is stored already")
    packed = {"prompt": texts.pack(call.prompt), "reply": texts.pack(call.reply)}
    connection.execute(insert(schema.ModelCall), asdict(call) | packed)


def store_evaluation(
    connection: Connection, texts: Texts, candidate_id: int, evaluation: EvaluationRecord
) -> tuple[int, bool]:
    """Writes an evaluation and its metrics unless there is one of this candidate, stage and split.

    Returns its row, and whether it is new.
    """
    stored = select(schema.Evaluation.id).where(
        schema.Evaluation.candidate_id == candidate_id,
        schema.Evaluation.stage == evaluation.stage,
        schema.Evaluation.split == evaluation.split,
    )
    if (present := connection.scalar(stored)) is not None:
        return present, False
    original = evaluation.duplicate_of
    row = {
        "candidate_id": candidate_id,
        "duplicate_of_id": None if original is None else require_candidate(connection, original),
        "stage": evaluation.stage,
        "split": evaluation.split,
        "score": None if evaluation.score is None else float(evaluation.score),
        "failure": evaluation.failure,
        "behaviour": evaluation.behaviour,
        "wall_s": float(evaluation.wall_s),
        "message": texts.pack(evaluation.message),
        "feedback": texts.pack(evaluation.feedback),
        "samples": evaluation.samples,
        "normal": evaluation.normal,
    }
    evaluation_id = _insert_row(connection, schema.Evaluation, row)
    measured = [
        {"evaluation_id": evaluation_id, "descriptor": descriptor, "name": name, "value": _storable(value)}
        for descriptor, values in ((False, evaluation.metrics), (True, evaluation.descriptors))
        for name, value in values.items()
    ]
    if measured:
        connection.execute(insert(schema.Metric), measured)
    return evaluation_id, True


def first_result(connection: Connection, candidate_id: int) -> tuple[int, str] | None:
    """The evaluation that first completed a proposal of this candidate, and the candidate that earned it."""
    earner = func.coalesce(schema.Evaluation.duplicate_of_id, schema.Evaluation.candidate_id)
    query = (
        select(schema.Evaluation.id, schema.Candidate.hash)
        .join(schema.Proposal, schema.Proposal.evaluation_id == schema.Evaluation.id)
        .join(schema.Candidate, schema.Candidate.id == earner)
        .where(schema.Proposal.candidate_id == candidate_id)
        .order_by(schema.Proposal.completion)
    )
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else (row.id, row.hash)


def store_event(connection: Connection, kind: str, text: str) -> None:
    """Notes an event, with the present time."""
    connection.execute(insert(schema.Event), {"at": time.time(), "kind": kind, "text": text})


def check_finite(evaluation: EvaluationRecord) -> None:
    """Raises ValueError for what only a bug produces: NaN, infinity, neither or both of score and failure."""
    score = {} if evaluation.score is None else {"score": evaluation.score}
    for name, value in (evaluation.descriptors | score).items():
        if not math.isfinite(value):
            raise ValueError(f"{name} of an evaluation is {value}; it has to be finite")
    if (evaluation.score is None) == (evaluation.failure is None):
        raise ValueError("an evaluation has either a score or a failure")


def find_candidate(connection: Connection, hash: str) -> int | None:
    """Row of the candidate with this hash, if it is stored."""
    return connection.scalar(select(schema.Candidate.id).where(schema.Candidate.hash == hash))


def require_candidate(connection: Connection, hash: str) -> int:
    """Row of a candidate that has to be there. Raises ValueError when it is not."""
    candidate_id = find_candidate(connection, hash)
    if candidate_id is None:
        raise ValueError(f"the archive has no candidate {hash}")
    return candidate_id


def load_grid(connection: Connection, islands: int) -> Grid:
    """The grid as the elite table has it, cells in the order in which they were filled."""
    query = (
        select(schema.Elite.island, schema.Elite.cell, schema.Candidate.hash)
        .add_columns(schema.Proposal.score, schema.Proposal.number)
        .join(schema.Proposal, schema.Proposal.number == schema.Elite.number)
        .join(schema.Candidate, schema.Candidate.id == schema.Proposal.candidate_id)
        .order_by(schema.Elite.island, schema.Elite.position)
    )
    grid = Grid(islands)
    for island, cell, hash, score, number in connection.execute(query):
        grid.place(Elite(island, tuple(map(int, cell.split(","))), hash, score, number))
    return grid


def load_pending(connection: Connection) -> dict[int, Pending]:
    """Proposals that have no evaluation yet, by number."""
    query = (
        select(schema.Proposal.number, schema.Proposal.candidate_id, schema.Candidate.hash)
        .add_columns(schema.Proposal.island)
        .join(schema.Candidate, schema.Candidate.id == schema.Proposal.candidate_id)
        .where(schema.Proposal.completion.is_(None))
    )
    return {row.number: Pending(*row[1:]) for row in connection.execute(query)}


def _insert_row(connection: Connection, table: type[schema.Table], row: Mapping[str, object]) -> int:
    key = connection.execute(insert(table), row).inserted_primary_key
    assert key is not None  # these tables have one
    return int(key[0])


def _storable(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
