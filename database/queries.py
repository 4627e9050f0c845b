"""The questions of the reader in SQL, and records out of the rows that answer them.

What the loop asks for every candidate is built once: SQLAlchemy takes longer to build such a statement than
SQLite to answer it.
"""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, case, func, select
from sqlalchemy.orm import aliased

from database import records, schema
from database.texts import Texts

Questions = Select[*tuple[Any, ...]]

SEPARATOR = ", "  # between the patterns of a proposal

OWNER = aliased(schema.Candidate)  # of an evaluation; its duplicate_of is another candidate
ORIGINAL = aliased(schema.Candidate)
MAIN = aliased(schema.Candidate)  # the main parent of a proposal

STANDINGS = select(
    schema.Candidate.hash, schema.Proposal.number, schema.Proposal.operator, schema.Proposal.score
).join(schema.Proposal, schema.Proposal.candidate_id == schema.Candidate.id)

FIRST_PROPOSAL = (
    STANDINGS.where(schema.Candidate.hash == bindparam("hash")).order_by(schema.Proposal.number).limit(1)
)

EVALUATIONS: Questions = (
    select(
        *schema.Evaluation.__table__.columns,
        OWNER.hash.label("owner"),
        ORIGINAL.hash.label("original"),
    )
    .join(OWNER, OWNER.id == schema.Evaluation.candidate_id)
    .outerjoin(ORIGINAL, ORIGINAL.id == schema.Evaluation.duplicate_of_id)
)

# the evaluation that first completed a proposal of the candidate `hash`
COMPLETING: Questions = (
    EVALUATIONS.join(schema.Proposal, schema.Proposal.evaluation_id == schema.Evaluation.id)
    .where(schema.Proposal.candidate_id == OWNER.id, OWNER.hash == bindparam("hash"))
    .order_by(schema.Proposal.completion)
    .limit(1)
)

# the first candidate with the normalised program `normal`
OF_NORMAL: Questions = (
    EVALUATIONS.where(schema.Evaluation.normal == bindparam("normal")).order_by(schema.Evaluation.id).limit(1)
)

# the first candidate that earned a score at `stage` and behaves like `behaviour`
OF_BEHAVIOUR: Questions = (
    EVALUATIONS.where(
        schema.Evaluation.behaviour == bindparam("behaviour"),
        schema.Evaluation.stage == bindparam("stage"),
        schema.Evaluation.score.is_not(None),
        schema.Evaluation.duplicate_of_id.is_(None),
    )
    .order_by(schema.Evaluation.id)
    .limit(1)
)

MEASURED = select(schema.Metric.descriptor, schema.Metric.name, schema.Metric.value).where(
    schema.Metric.evaluation_id == bindparam("evaluation_id")
)

SAMPLES = (
    select(schema.Candidate.hash, *schema.Sample.__table__.columns)
    .join(schema.Candidate, schema.Candidate.id == schema.Sample.candidate_id)
    .where(schema.Candidate.hash == bindparam("hash"), schema.Sample.stage == bindparam("stage"))
    .order_by(schema.Sample.number)
)

# changes of the candidate `hash` that failed, among the first `completed` results of the run; replies of
# which no program could be made are none
FAILED_CHANGES: Questions = (
    select(schema.Candidate.source, schema.Evaluation.failure, schema.Evaluation.message)
    .join(schema.Proposal, schema.Proposal.candidate_id == schema.Candidate.id)
    .join(schema.Evaluation, schema.Evaluation.id == schema.Proposal.evaluation_id)
    .join(schema.Parent, (schema.Parent.number == schema.Proposal.number) & (schema.Parent.position == 0))
    .join(MAIN, MAIN.id == schema.Parent.candidate_id)
    .where(
        MAIN.hash == bindparam("hash"),
        schema.Proposal.completion <= bindparam("completed"),
        schema.Proposal.duplicate_of_id.is_(None),
        schema.Proposal.detail == "",
        schema.Evaluation.failure.is_not(None),
    )
    .order_by(schema.Proposal.completion.desc())
    .limit(bindparam("most"))
)

EFFORT = [getattr(schema.Proposal, name.name) for name in fields(records.Effort)]

STEPS = (
    select(schema.Proposal.number, schema.Proposal.operator, schema.Candidate.hash, schema.Proposal.gain)
    .add_columns(MAIN.hash.label("parent"), schema.Evaluation.score, schema.Proposal.placement)
    .add_columns(ORIGINAL.hash.label("original"), *EFFORT)
    .join(schema.Candidate, schema.Candidate.id == schema.Proposal.candidate_id)
    .outerjoin(ORIGINAL, ORIGINAL.id == schema.Proposal.duplicate_of_id)
    .outerjoin(schema.Evaluation, schema.Evaluation.id == schema.Proposal.evaluation_id)
    .outerjoin(
        schema.Parent, (schema.Parent.number == schema.Proposal.number) & (schema.Parent.position == 0)
    )
    .outerjoin(MAIN, MAIN.id == schema.Parent.candidate_id)
    .where(schema.Proposal.completion.is_not(None))
)

CALL = schema.ModelCall.__table__.columns

# the calls of proposal `of`
CALLS = select(*CALL).where(schema.ModelCall.number == bindparam("of")).order_by(schema.ModelCall.position)

# the last call of `operator` for a proposal below `before`
LATEST_CALL = (
    select(*CALL)
    .where(schema.ModelCall.operator == bindparam("operator"), schema.ModelCall.number < bindparam("before"))
    .order_by(schema.ModelCall.number.desc(), schema.ModelCall.position.desc())
    .limit(1)
)

GAIN = select(schema.Proposal.gain).where(schema.Proposal.number == bindparam("of"))

COSTS: Questions = select(
    schema.ModelCall.model,
    schema.ModelCall.operator,
    func.sum(schema.ModelCall.tokens_in),
    func.sum(schema.ModelCall.tokens_out),
    func.sum(schema.ModelCall.cost_usd),
    func.sum(schema.ModelCall.tokens_reasoning),
    func.count(),
).group_by(schema.ModelCall.model, schema.ModelCall.operator)

BECAME_ELITE = schema.Proposal.placement.in_([records.Placement.NEW_CELL, records.Placement.IMPROVED])

YIELDS: Questions = (
    select(
        schema.Proposal.model,
        schema.Proposal.operator,
        func.count(),
        func.count(schema.Proposal.score),
        func.count(case((BECAME_ELITE, 1))),
        func.coalesce(func.sum(schema.Proposal.gain), 0.0),
        func.sum(schema.Proposal.changed),
    )
    .where(schema.Proposal.model != "")
    .group_by(schema.Proposal.model, schema.Proposal.operator)
)

PATTERNS: Questions = (
    select(schema.Proposal.model, schema.Proposal.operator, schema.Proposal.patterns, func.count())
    .where(schema.Proposal.patterns != "")
    .group_by(schema.Proposal.model, schema.Proposal.operator, schema.Proposal.patterns)
)


def standing(row: "Row[str, int, str, float | None]") -> records.Standing:
    """A line of a leaderboard."""
    return records.Standing(row.hash, row.number, row.operator, row.score)


def step(row: "Row[*tuple[Any, ...]]") -> records.Step:
    """A line of the course of a run."""
    placement = None if row.placement is None else records.Placement(row.placement)
    score = None if placement is None else row.score
    return records.Step(
        row.number,
        row.operator,
        row.hash,
        row.parent,
        score,
        placement,
        gain=row.gain or 0.0,
        duplicate_of=row.original,
        effort=effort(row),
    )


def effort(row: "Row[*tuple[Any, ...]]") -> records.Effort:
    """What a proposal took."""
    of = {field.name: getattr(row, field.name) for field in fields(records.Effort)}
    return records.Effort(**of | {"patterns": tuple(filter(None, row.patterns.split(SEPARATOR)))})


def sample(row: "Row[*tuple[Any, ...]]") -> records.SampleRecord:
    """A further measurement."""
    return records.SampleRecord(
        row.hash, row.stage, row.split, row.number, row.score, row.failure, row.samples, row.wall_s
    )


def evaluation(
    connection: Connection, texts: Texts, query: Questions, **asked: str
) -> records.EvaluationRecord | None:
    """The evaluation that a question asks for, if there is one."""
    row = connection.execute(query, asked).one_or_none()
    return None if row is None else evaluation_record(connection, texts, row)


def evaluation_record(
    connection: Connection, texts: Texts, row: "Row[*tuple[Any, ...]]"
) -> records.EvaluationRecord:
    """An evaluation with its metrics."""
    rows = connection.execute(MEASURED, {"evaluation_id": row.id}).all()
    return records.EvaluationRecord(
        stage=row.stage,
        split=row.split,
        score=row.score,
        failure=row.failure,
        message=texts.unpack(connection, row.message),
        feedback=texts.unpack(connection, row.feedback),
        behaviour=row.behaviour,
        metrics=_floats((name, value) for descriptor, name, value in rows if not descriptor),
        descriptors=_floats((name, value) for descriptor, name, value in rows if descriptor),
        samples=row.samples,
        duplicate_of=row.original,
        wall_s=row.wall_s,
        normal=row.normal,
        noisy=row.noisy,
    )


def _floats(stored: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in stored}


def proposal(connection: Connection, texts: Texts, number: int) -> records.ProposalRecord:
    """A proposal with its parents."""
    query = (
        select(*schema.Proposal.__table__.columns, schema.Candidate.source)
        .join(schema.Candidate, schema.Candidate.id == schema.Proposal.candidate_id)
        .where(schema.Proposal.number == number)
    )
    row = connection.execute(query).one()
    parents = (
        select(schema.Candidate.hash)
        .join(schema.Parent, schema.Parent.candidate_id == schema.Candidate.id)
        .where(schema.Parent.number == number)
        .order_by(schema.Parent.position)
    )
    return records.ProposalRecord(
        number=number,
        island=row.island,
        operator=row.operator,
        parents=tuple(connection.scalars(parents)),
        source=texts.unpack(connection, row.source),
        detail=row.detail,
        effort=effort(row),
    )
