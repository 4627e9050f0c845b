"""What everybody asks an archive: the loop, `inspect`, `watch`. Each question is one read transaction."""

import json
import math
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, case, func, select
from sqlalchemy.orm import aliased

from database import records, schema
from database.connection import display_name, transaction
from database.fingerprint import content_hash
from database.texts import Texts
from kvolve import KvolveError

SHORTEST_PREFIX = 4
OWNER = aliased(schema.Candidate)  # of an evaluation; its duplicate_of is another candidate
ORIGINAL = aliased(schema.Candidate)


class Reader:
    """Questions about a run. Answers hold everything that was committed before the question."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._texts = Texts()
        with transaction(engine) as connection:
            row = connection.execute(select(schema.Run.__table__)).one_or_none()
        if row is None:
            raise KvolveError(f"{display_name(engine.url)} holds no run. Start one with `kvolve run`.")
        self.run = records.RunRecord(
            problem=row.problem,
            settings_json=row.settings_json,
            seed=row.seed,
            axes=tuple(records.Axis(**axis) for axis in json.loads(row.axes_json)),
            islands=row.islands,
            migration_interval=row.migration_interval,
            kvolve_version=row.kvolve_version,
        )

    def next_number(self) -> int:
        """One more than the highest proposal number, 0 at the start."""
        with transaction(self._engine) as connection:
            highest = connection.scalar(select(func.max(schema.Proposal.number)))
        return 0 if highest is None else highest + 1

    def completed(self) -> int:
        """Proposals that have an evaluation, failures and duplicates among them."""
        with transaction(self._engine) as connection:
            return connection.scalar(select(func.max(schema.Proposal.completion))) or 0

    def pending(self) -> list[records.ProposalRecord]:
        """Proposals without an evaluation, by number: what `resume` has to finish."""
        unfinished = select(schema.Proposal.number).where(schema.Proposal.completion.is_(None))
        with transaction(self._engine) as connection:
            numbers = connection.scalars(unfinished.order_by(schema.Proposal.number)).all()
            return [_proposal(connection, self._texts, number) for number in numbers]

    def candidate(self, prefix: str) -> records.Candidate:
        """A candidate by the first characters of its hash.

        Raises KvolveError when there are fewer than four, or when no candidate or more than one begins so.
        """
        prefix = prefix.lower()
        if len(prefix) < SHORTEST_PREFIX or not set(prefix) <= set("0123456789abcdef"):
            raise KvolveError(
                f"{prefix!r} names no candidate: give at least {SHORTEST_PREFIX} hex digits of its hash."
            )
        # A range, and not LIKE, because every database answers it from the index; "g" follows all digits.
        matching = select(schema.Candidate.id, schema.Candidate.hash).where(
            schema.Candidate.hash >= prefix, schema.Candidate.hash < prefix + "g"
        )
        with transaction(self._engine) as connection:
            found = connection.execute(matching.order_by(schema.Candidate.hash).limit(3)).all()
            if not found:
                raise KvolveError(f"No candidate begins with {prefix!r}. `kvolve inspect RUN` lists them.")
            if len(found) > 1:
                some = ", ".join(row.hash[: len(prefix) + 8] for row in found)
                raise KvolveError(f"Several candidates begin with {prefix!r} ({some}). Give more digits.")
            first = _first_proposal(found[0].hash).with_only_columns(schema.Proposal.number)
            proposal = _proposal(connection, self._texts, connection.scalars(first).one())
            evaluation = _evaluation(connection, self._texts, _completing(found[0].hash))
        return records.Candidate(found[0].hash, proposal, evaluation)

    def evaluation(self, hash: str, stage: str) -> records.EvaluationRecord | None:
        """The latest evaluation of a candidate at a stage."""
        query = _evaluations().where(OWNER.hash == hash, schema.Evaluation.stage == stage)
        with transaction(self._engine) as connection:
            return _evaluation(connection, self._texts, query.order_by(schema.Evaluation.id.desc()))

    def find_source(self, hash: str) -> records.EvaluationRecord | None:
        """The evaluation that an equal source has already got as a proposal."""
        with transaction(self._engine) as connection:
            return _evaluation(connection, self._texts, _completing(hash))

    def find_behaviour(self, behaviour: str, stage: str) -> records.Known | None:
        """The first candidate with this behaviour hash that earned a score at this stage, and its result."""
        query = _evaluations().where(
            schema.Evaluation.behaviour == behaviour,
            schema.Evaluation.stage == stage,
            schema.Evaluation.score.is_not(None),
            schema.Evaluation.duplicate_of_id.is_(None),
        )
        return self._known(query) if behaviour else None

    def find_normal(self, normal: str) -> records.Known | None:
        """The first candidate whose normalised program has this hash, and the result that it got."""
        return self._known(_evaluations().where(schema.Evaluation.normal == normal)) if normal else None

    def _known(self, query: "Select[*tuple[Any, ...]]") -> records.Known | None:
        with transaction(self._engine) as connection:
            row = connection.execute(query.order_by(schema.Evaluation.id).limit(1)).one_or_none()
            if row is None:
                return None
            return records.Known(row.owner, _evaluation_record(connection, self._texts, row))

    def leaderboard(self, limit: int, operator: str | None = None) -> list[records.Standing]:
        """The best by score, of equal ones the earliest; by default, of all that may become elites."""
        chosen = (
            schema.Proposal.placement.is_not(None)
            if operator is None
            else (schema.Proposal.operator == operator) & schema.Proposal.score.is_not(None)
        )
        query = _standings().where(chosen).order_by(schema.Proposal.score.desc(), schema.Proposal.number)
        with transaction(self._engine) as connection:
            return [_standing(row) for row in connection.execute(query.limit(limit))]

    def candidates_of(self, operator: str) -> list[records.Candidate]:
        """The candidates that an operator made, failures among them, in the order of their proposals."""
        query = _standings().where(schema.Proposal.operator == operator).order_by(schema.Proposal.number)
        with transaction(self._engine) as connection:
            made = [row.hash for row in connection.execute(query)]
        return [self.candidate(hash) for hash in made]

    def measured(self, stage: str) -> list[records.Standing]:
        """The candidates that have an evaluation of a stage, in the order in which they were proposed."""
        having = select(schema.Evaluation.candidate_id).where(schema.Evaluation.stage == stage)
        query = _standings().where(schema.Candidate.id.in_(having)).order_by(schema.Proposal.number)
        with transaction(self._engine) as connection:
            first = {row.hash: _standing(row) for row in reversed(connection.execute(query).all())}
        return sorted(first.values(), key=lambda standing: standing.number)

    def lineage(self, hash: str) -> list[records.Standing]:
        """The candidate, its main parent, that one's main parent, and so on back to a seed."""
        line: dict[str, records.Standing] = {}
        next_hash: str | None = hash
        with transaction(self._engine) as connection:
            # A source may be found again among its own descendants: the line ends where it would close.
            while next_hash is not None and next_hash not in line:
                row = connection.execute(_first_proposal(next_hash)).one_or_none()
                if row is None:
                    raise KvolveError(f"The archive has no candidate {next_hash}.")
                line[next_hash] = _standing(row)
                next_hash = connection.scalar(
                    select(schema.Candidate.hash)
                    .join(schema.Parent, schema.Parent.candidate_id == schema.Candidate.id)
                    .where(schema.Parent.number == row.number, schema.Parent.position == 0)
                )
        return list(line.values())

    def history(self) -> list[float | None]:
        """Best score of the grid after each completed evaluation; None before the first score."""
        score = case((schema.Proposal.placement.is_not(None), schema.Proposal.score))
        best = func.max(score).over(order_by=schema.Proposal.completion)
        query = select(best).where(schema.Proposal.completion.is_not(None))
        with transaction(self._engine) as connection:
            return list(connection.scalars(query.order_by(schema.Proposal.completion)))

    def failures(self) -> dict[str, int]:
        """How often each kind of failure occurred, most frequent first; duplicates are not counted again."""
        count = func.count()
        query = (
            select(schema.Evaluation.failure, count)
            .join(schema.Proposal, schema.Proposal.evaluation_id == schema.Evaluation.id)
            .where(schema.Evaluation.failure.is_not(None), schema.Proposal.duplicate_of_id.is_(None))
            .group_by(schema.Evaluation.failure)
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(query.order_by(count.desc(), schema.Evaluation.failure))
            return {str(failure): times for failure, times in rows}

    def duplicates(self) -> int:
        """Proposals that repeated a known source, program or behaviour."""
        return sum(sum(kinds.values()) for kinds in self.duplicates_by_operator().values())

    def duplicates_by_operator(self) -> dict[str, dict[records.DuplicateKind, int]]:
        """How often each operator repeated a candidate, by kind; every kind is there."""
        count, kind = func.count(), schema.Proposal.duplicate_kind
        query = (
            select(schema.Proposal.operator, kind, count)
            .where(kind.is_not(None))
            .group_by(schema.Proposal.operator, kind)
            .order_by(schema.Proposal.operator)
        )
        counts: dict[str, dict[records.DuplicateKind, int]] = {}
        with transaction(self._engine) as connection:
            for operator, kind_name, times in connection.execute(query):
                of_operator = counts.setdefault(operator, dict.fromkeys(records.DuplicateKind, 0))
                of_operator[records.DuplicateKind(str(kind_name))] = times
        return counts

    def retests(self) -> records.Retests:
        """How the re-tests of behavioural duplicates came out."""
        agreed = schema.Proposal.agreed
        query = select(func.count(case((agreed.is_(True), 1))), func.count(agreed)).where(agreed.is_not(None))
        with transaction(self._engine) as connection:
            same, tested = connection.execute(query).one()
        return records.Retests(same, tested - same)

    def operator_counts(self) -> dict[str, records.OperatorCount]:
        """How each operator fared, by name."""
        became_elite = schema.Proposal.placement.in_([records.Placement.NEW_CELL, records.Placement.IMPROVED])
        query = select(
            schema.Proposal.operator,
            func.count(),
            func.count(schema.Proposal.score),
            func.count(case((became_elite, 1))),
        ).group_by(schema.Proposal.operator)
        with transaction(self._engine) as connection:
            rows = connection.execute(query.order_by(schema.Proposal.operator))
            return {row[0]: records.OperatorCount(*row[1:]) for row in rows}

    def cost(self) -> records.Cost:
        """Tokens and dollars of all model calls, those among them whose proposal never came."""
        query = select(
            func.coalesce(func.sum(schema.ModelCall.tokens_in), 0),
            func.coalesce(func.sum(schema.ModelCall.tokens_out), 0),
            func.coalesce(func.sum(schema.ModelCall.cost_usd), 0.0),
        )
        with transaction(self._engine) as connection:
            return records.Cost(*connection.execute(query).one())

    def calls(self, number: int) -> list[records.CallRecord]:
        """The model calls made for a proposal, in their order, whether the proposal exists or not."""
        query = select(*schema.ModelCall.__table__.columns).where(schema.ModelCall.number == number)
        with transaction(self._engine) as connection:
            rows = connection.execute(query.order_by(schema.ModelCall.position)).mappings().all()
            return [
                records.CallRecord(
                    **{
                        **row,
                        "prompt": self._texts.unpack(connection, row["prompt"]),
                        "reply": self._texts.unpack(connection, row["reply"]),
                    }
                )
                for row in rows
            ]

    def events(self) -> list[records.Event]:
        """Everything worth telling, in the order in which it happened."""
        query = select(schema.Event.at, schema.Event.kind, schema.Event.text).order_by(schema.Event.id)
        with transaction(self._engine) as connection:
            return [records.Event(*row) for row in connection.execute(query)]

    def content_hash(self) -> str:
        """SHA-256 of all that has to be equal when a deterministic run is repeated; see `fingerprint`."""
        with transaction(self._engine) as connection:
            return content_hash(connection, self.run)


def _standing(row: "Row[str, int, str, float | None]") -> records.Standing:
    return records.Standing(row.hash, row.number, row.operator, row.score)


def _standings() -> "Select[str, int, str, float | None]":
    return select(
        schema.Candidate.hash, schema.Proposal.number, schema.Proposal.operator, schema.Proposal.score
    ).join(schema.Proposal, schema.Proposal.candidate_id == schema.Candidate.id)


def _first_proposal(hash: str) -> "Select[str, int, str, float | None]":
    return _standings().where(schema.Candidate.hash == hash).order_by(schema.Proposal.number).limit(1)


def _evaluations() -> "Select[*tuple[Any, ...]]":
    return (
        select(
            *schema.Evaluation.__table__.columns,
            OWNER.hash.label("owner"),
            ORIGINAL.hash.label("original"),
        )
        .join(OWNER, OWNER.id == schema.Evaluation.candidate_id)
        .outerjoin(ORIGINAL, ORIGINAL.id == schema.Evaluation.duplicate_of_id)
    )


def _completing(hash: str) -> "Select[*tuple[Any, ...]]":
    """Evaluations that completed proposals of a candidate, the first one first."""
    return (
        _evaluations()
        .join(schema.Proposal, schema.Proposal.evaluation_id == schema.Evaluation.id)
        .where(schema.Proposal.candidate_id == OWNER.id, OWNER.hash == hash)
        .order_by(schema.Proposal.completion)
    )


def _evaluation(
    connection: Connection, texts: Texts, query: "Select[*tuple[Any, ...]]"
) -> records.EvaluationRecord | None:
    row = connection.execute(query.limit(1)).one_or_none()
    return None if row is None else _evaluation_record(connection, texts, row)


def _evaluation_record(
    connection: Connection, texts: Texts, row: "Row[*tuple[Any, ...]]"
) -> records.EvaluationRecord:
    measured = select(schema.Metric.descriptor, schema.Metric.name, schema.Metric.value)
    rows = connection.execute(measured.where(schema.Metric.evaluation_id == row.id)).all()
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
    )


def _floats(stored: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in stored}


def _proposal(connection: Connection, texts: Texts, number: int) -> records.ProposalRecord:
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
    )
