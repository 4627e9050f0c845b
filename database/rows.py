"""Rows of the tables: how proposals and evaluations are written, and how the writer's memory is read back."""

import math
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgpack
from sqlalchemy import Connection, bindparam, func, insert, select, update

from database import schema
from database.fingerprint import digest_of
from database.grid import Grid
from database.queries import SEPARATOR
from database.records import (
    CallRecord,
    Cell,
    Elite,
    EvaluationRecord,
    Placement,
    ProposalRecord,
    RequestRecord,
    SampleRecord,
)
from database.texts import Texts

RESULTS: dict[str, type[EvaluationRecord] | type[SampleRecord]] = {
    record.__name__: record for record in (EvaluationRecord, SampleRecord)
}

Measurements = list[tuple[int, float]]
"""Scores with the numbers of the proposals with which they were measured."""

# Statements of every candidate are built once, as in `queries`.
INSERTS = {table: insert(table) for table in (mapper.class_ for mapper in schema.Table.registry.mappers)}
TAKEN = select(schema.Proposal.number).where(schema.Proposal.number == bindparam("number"))
CALLED = select(schema.ModelCall.number).where(
    schema.ModelCall.number == bindparam("number"), schema.ModelCall.position == bindparam("position")
)
NAMED = select(schema.Candidate.id).where(schema.Candidate.hash == bindparam("hash"))
STORED = select(schema.Evaluation.id).where(
    schema.Evaluation.candidate_id == bindparam("of"),
    schema.Evaluation.stage == bindparam("stage"),
    schema.Evaluation.split == bindparam("split"),
)
PARENT_SCORE = (
    select(schema.Evaluation.score)
    .join(schema.Parent, schema.Parent.candidate_id == schema.Evaluation.candidate_id)
    .where(
        schema.Parent.number == bindparam("of"),
        schema.Parent.position == 0,
        schema.Evaluation.stage == bindparam("stage"),
    )
    .limit(1)
)
EARNER = func.coalesce(schema.Evaluation.duplicate_of_id, schema.Evaluation.candidate_id)
FIRST_RESULT = (
    select(schema.Evaluation.id, schema.Candidate.hash)
    .join(schema.Proposal, schema.Proposal.evaluation_id == schema.Evaluation.id)
    .join(schema.Candidate, schema.Candidate.id == EARNER)
    .where(schema.Proposal.candidate_id == bindparam("of"))
    .order_by(schema.Proposal.completion)
    .limit(1)
)


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
    if connection.scalar(TAKEN, {"number": proposal.number}) is not None:
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
        **asdict(proposal.effort),
        "patterns": SEPARATOR.join(proposal.effort.patterns),
    }
    connection.execute(INSERTS[schema.Proposal], row)
    parents = [
        {
            "number": proposal.number,
            "position": position,
            "candidate_id": require_candidate(connection, parent),
        }
        for position, parent in enumerate(proposal.parents)
    ]
    if parents:
        connection.execute(INSERTS[schema.Parent], parents)
    return candidate_id


def store_call(connection: Connection, texts: Texts, call: CallRecord) -> None:
    """Writes a model call. Raises ValueError when there is one of this number and position already."""
    if connection.scalar(CALLED, {"number": call.number, "position": call.position}) is not None:
        raise ValueError(f"call {call.position} of proposal {call.number} is stored already")
    packed = {"prompt": texts.pack(call.prompt), "reply": texts.pack(call.reply)}
    connection.execute(INSERTS[schema.ModelCall], asdict(call) | packed)


def store_evaluation(
    connection: Connection, texts: Texts, candidate_id: int, evaluation: EvaluationRecord
) -> tuple[int, bool]:
    """Writes an evaluation and its metrics unless there is one of this candidate, stage and split.

    Returns its row, and whether it is new.
    """
    of = {"of": candidate_id, "stage": evaluation.stage, "split": evaluation.split}
    if (present := connection.scalar(STORED, of)) is not None:
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
        "noisy": evaluation.noisy,
        "digest": digest_of(evaluation),
    }
    evaluation_id = _insert_row(connection, schema.Evaluation, row)
    measured = [
        {"evaluation_id": evaluation_id, "descriptor": descriptor, "name": name, "value": _storable(value)}
        for descriptor, values in ((False, evaluation.metrics), (True, evaluation.descriptors))
        for name, value in values.items()
    ]
    if measured:
        connection.execute(INSERTS[schema.Metric], measured)
    return evaluation_id, True


def store_sample(connection: Connection, record: SampleRecord) -> None:
    """Writes a further measurement. Raises ValueError when there is one of this stage and number already."""
    row = asdict(record) | {"candidate_id": require_candidate(connection, record.hash)}
    del row["hash"]
    here = [schema.Sample.candidate_id, schema.Sample.stage, schema.Sample.number]
    taken = select(here[0]).where(*(column == row[column.key] for column in here))
    if connection.scalar(taken) is not None:
        raise ValueError(
            f"candidate {record.hash} has a measurement {record.number} of {record.stage} already"
        )
    connection.execute(insert(schema.Sample), row)


def measurements(connection: Connection, candidate_id: int, stage: str) -> Measurements:
    """All scores of a candidate at a stage, that of the proposal which earned it first.

    Empty for a candidate without a score of its own at this stage.
    """
    earned = (
        select(schema.Proposal.number, schema.Evaluation.score)
        .join(schema.Evaluation, schema.Evaluation.id == schema.Proposal.evaluation_id)
        .where(
            schema.Proposal.candidate_id == candidate_id,
            schema.Proposal.score.is_not(None),
            schema.Evaluation.stage == stage,
        )
    )
    first = connection.execute(earned.limit(1)).one_or_none()
    if first is None:
        return []
    further = select(schema.Sample.number, schema.Sample.score).where(
        schema.Sample.candidate_id == candidate_id,
        schema.Sample.stage == stage,
        schema.Sample.score.is_not(None),
    )
    rows = connection.execute(further.order_by(schema.Sample.number)).all()
    return [(row[0], row[1]) for row in (first, *rows) if row[1] is not None]


def estimate(measured: Measurements) -> dict[str, Any]:
    """What measurements come to, in the fields of `Elite`."""
    scores = [score for _, score in measured]
    # of one score exactly that score: a mean of several is rounded
    mean = scores[0] if len(scores) == 1 else math.fsum(scores) / len(scores)
    spread = math.fsum((score - mean) ** 2 for score in scores)
    return {"score": mean, "samples": len(scores), "spread": spread, "measured": measured[-1][0]}


def store_result(connection: Connection, number: int, result: EvaluationRecord | SampleRecord) -> None:
    """Writes a result whose turn has not come."""
    content = msgpack.packb([type(result).__name__, asdict(result)], unicode_errors="surrogatepass")
    connection.execute(insert(schema.Result), {"number": number, "content": zlib.compress(content)})


def load_results(connection: Connection) -> dict[int, EvaluationRecord | SampleRecord]:
    """The results whose turn has not come, by number."""
    results: dict[int, EvaluationRecord | SampleRecord] = {}
    for number, content in connection.execute(select(schema.Result.__table__)):
        name, fields = msgpack.unpackb(zlib.decompress(content), unicode_errors="surrogatepass")
        results[number] = RESULTS[name](**fields)
    return results


def store_request(connection: Connection, request: RequestRecord) -> None:
    """Writes what a proposal is to start from."""
    rows = [
        {
            "number": request.number,
            "position": position,
            "candidate_id": require_candidate(connection, parent),
            "asked": request.asked,
            "remeasured": request.remeasured,
            "choice": request.choice,
            "drafts": request.drafts,
        }
        for position, parent in enumerate(request.parents)
    ]
    connection.execute(INSERTS[schema.Request], rows)


def first_result(connection: Connection, candidate_id: int) -> tuple[int, str] | None:
    """The evaluation that first completed a proposal of this candidate, and the candidate that earned it."""
    row = connection.execute(FIRST_RESULT, {"of": candidate_id}).one_or_none()
    return None if row is None else (row.id, row.hash)


def parent_score(connection: Connection, number: int, stage: str) -> float | None:
    """The score that the main parent of a proposal has at a stage, be it that of whom it repeats."""
    return connection.scalar(PARENT_SCORE, {"of": number, "stage": stage})


def store_elite(connection: Connection, grid: Grid, placement: Placement, elite: Elite) -> None:
    """Writes what became of a candidate that was offered to a cell."""
    if placement is Placement.NEW_CELL:
        position = grid.position(elite.island, elite.cell)
        row = {"island": elite.island, "position": position, "number": elite.number}
        connection.execute(insert(schema.Elite), row | {"cell": ",".join(map(str, elite.cell))})
    elif placement is Placement.IMPROVED:
        store_seat(connection, grid, elite.island, elite.cell)


def store_seat(connection: Connection, grid: Grid, island: int, cell: Cell) -> None:
    """Writes who holds a cell that was filled before."""
    seat, position = grid.seat(island, cell), grid.position(island, cell)
    here = (schema.Elite.island == island) & (schema.Elite.position == position)
    displaced = None if seat.displaced is None else seat.displaced.number
    connection.execute(
        update(schema.Elite).where(here), {"number": seat.elite.number, "displaced": displaced}
    )


def store_event(connection: Connection, kind: str, text: str) -> None:
    """Notes an event, with the present time."""
    connection.execute(INSERTS[schema.Event], {"at": time.time(), "kind": kind, "text": text})


def check_finite(evaluation: EvaluationRecord | SampleRecord) -> None:
    """Raises ValueError for what only a bug produces: NaN, infinity, neither or both of score and failure."""
    figures = {} if evaluation.score is None else {"score": evaluation.score}
    if isinstance(evaluation, EvaluationRecord):
        figures |= evaluation.descriptors
    for name, value in figures.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} of an evaluation is {value}; it has to be finite")
    if (evaluation.score is None) == (evaluation.failure is None):
        raise ValueError("an evaluation has either a score or a failure")


def find_candidate(connection: Connection, hash: str) -> int | None:
    """Row of the candidate with this hash, if it is stored."""
    return connection.scalar(NAMED, {"hash": hash})


def require_candidate(connection: Connection, hash: str) -> int:
    """Row of a candidate that has to be there. Raises ValueError when it is not."""
    candidate_id = find_candidate(connection, hash)
    if candidate_id is None:
        raise ValueError(f"the archive has no candidate {hash}")
    return candidate_id


def load_grid(connection: Connection, islands: int) -> Grid:
    """The grid as the elite table has it, cells in the order in which they were filled."""
    known = {elite.number: elite for elite in _candidates_of_grid(connection)}
    grid = Grid(islands)
    rows = connection.execute(select(schema.Elite.__table__).order_by("island", "position"))
    for island, _, cell_text, number, displaced in rows:
        cell: Cell = tuple(map(int, cell_text.split(",")))
        before = None if displaced is None else replace(known[displaced], island=island, cell=cell)
        grid.restore(replace(known[number], island=island, cell=cell), before)
    return grid


def _candidates_of_grid(connection: Connection) -> Iterator[Elite]:
    """All elites and those that they displaced, without their place."""
    placed = select(schema.Elite.number).union(
        select(schema.Elite.displaced).where(schema.Elite.displaced.is_not(None))
    )
    query = (
        select(schema.Proposal.number, schema.Evaluation.score, schema.Proposal.candidate_id)
        .add_columns(schema.Candidate.hash, schema.Evaluation.stage, schema.Evaluation.noisy)
        .join(schema.Candidate, schema.Candidate.id == schema.Proposal.candidate_id)
        .join(schema.Evaluation, schema.Evaluation.id == schema.Proposal.evaluation_id)
        .where(schema.Proposal.number.in_(placed))
    )
    rows = connection.execute(query).all()
    further: defaultdict[tuple[int, str], Measurements] = defaultdict(list)
    sample = schema.Sample
    measured = select(sample.candidate_id, sample.stage, sample.number, sample.score).where(
        sample.candidate_id.in_(
            select(schema.Proposal.candidate_id).where(schema.Proposal.number.in_(placed))
        )
    )
    for candidate_id, stage, number, score in connection.execute(measured.order_by(sample.number)):
        if score is not None:
            further[candidate_id, stage].append((number, score))
    for number, score, candidate_id, hash, stage, noisy in rows:
        assert score is not None  # an elite has one
        came_to = estimate([(number, score), *further[candidate_id, stage]])
        yield Elite(0, (), hash, number=number, noisy=noisy, **came_to)


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
    key = connection.execute(INSERTS[table], row).inserted_primary_key
    assert key is not None  # these tables have one
    return int(key[0])


def _storable(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
