"""What everybody asks an archive: the loop, `inspect`, `watch`. Each question is one read transaction."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, Engine, RowMapping, case, func, select

from database import queries, records, schema
from database.connection import display_name, transaction
from database.fingerprint import content_hash
from database.texts import Texts
from kvolve import KvolveError

SHORTEST_PREFIX = 4
PAGE = 1_000  # rows that are held at a time


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
            centroids=tuple(map(tuple, json.loads(row.centroids_json))),
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
            return [queries.proposal(connection, self._texts, number) for number in numbers]

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
            hash = found[0].hash
            first = connection.execute(queries.FIRST_PROPOSAL, {"hash": hash}).one()
            proposal = queries.proposal(connection, self._texts, first.number)
            evaluation = queries.evaluation(connection, self._texts, queries.COMPLETING, hash=hash)
        return records.Candidate(hash, proposal, evaluation)

    def evaluation(self, hash: str, stage: str) -> records.EvaluationRecord | None:
        """The latest evaluation of a candidate at a stage; further measurements are its samples."""
        query = queries.EVALUATIONS.where(queries.OWNER.hash == hash, schema.Evaluation.stage == stage)
        latest = query.order_by(schema.Evaluation.id.desc()).limit(1)
        with transaction(self._engine) as connection:
            return queries.evaluation(connection, self._texts, latest)

    def samples(self, hash: str, stage: str) -> list[records.SampleRecord]:
        """The further measurements of a candidate at a stage, beside its evaluation, by number."""
        with transaction(self._engine) as connection:
            rows = connection.execute(queries.SAMPLES, {"hash": hash, "stage": stage})
            return [queries.sample(row) for row in rows]

    def find_source(self, hash: str) -> records.EvaluationRecord | None:
        """The evaluation that an equal source has already got as a proposal."""
        with transaction(self._engine) as connection:
            return queries.evaluation(connection, self._texts, queries.COMPLETING, hash=hash)

    def find_behaviour(self, behaviour: str, stage: str) -> records.Known | None:
        """The first candidate with this behaviour hash that earned a score at this stage, and its result."""
        asked = {"behaviour": behaviour, "stage": stage}
        return self._known(queries.OF_BEHAVIOUR, asked) if behaviour else None

    def find_normal(self, normal: str) -> records.Known | None:
        """The first candidate whose normalised program has this hash, and the result that it got."""
        return self._known(queries.OF_NORMAL, {"normal": normal}) if normal else None

    def _known(self, query: queries.Questions, asked: dict[str, str]) -> records.Known | None:
        with transaction(self._engine) as connection:
            row = connection.execute(query, asked).one_or_none()
            if row is None:
                return None
            return records.Known(row.owner, queries.evaluation_record(connection, self._texts, row))

    def leaderboard(self, limit: int, operator: str | None = None) -> list[records.Standing]:
        """The best by score, of equal ones the earliest; by default, of all that may become elites."""
        chosen = (
            schema.Proposal.placement.is_not(None)
            if operator is None
            else (schema.Proposal.operator == operator) & schema.Proposal.score.is_not(None)
        )
        query = queries.STANDINGS.where(chosen).order_by(schema.Proposal.score.desc(), schema.Proposal.number)
        with transaction(self._engine) as connection:
            return [queries.standing(row) for row in connection.execute(query.limit(limit))]

    def candidates_of(self, operator: str) -> list[records.Candidate]:
        """The candidates that an operator made, failures among them, in the order of their proposals."""
        query = queries.STANDINGS.where(schema.Proposal.operator == operator).order_by(schema.Proposal.number)
        with transaction(self._engine) as connection:
            made = [row.hash for row in connection.execute(query)]
        return [self.candidate(hash) for hash in made]

    def measured(self, stage: str) -> list[records.Standing]:
        """The candidates that have an evaluation of a stage, in the order in which they were proposed."""
        having = select(schema.Evaluation.candidate_id).where(schema.Evaluation.stage == stage)
        query = queries.STANDINGS.where(schema.Candidate.id.in_(having)).order_by(schema.Proposal.number)
        with transaction(self._engine) as connection:
            first = {row.hash: queries.standing(row) for row in reversed(connection.execute(query).all())}
        return sorted(first.values(), key=lambda standing: standing.number)

    def lineage(self, hash: str) -> list[records.Standing]:
        """The candidate, its main parent, that one's main parent, and so on back to a seed."""
        line: dict[str, records.Standing] = {}
        next_hash: str | None = hash
        with transaction(self._engine) as connection:
            # A source may be found again among its own descendants: the line ends where it would close.
            while next_hash is not None and next_hash not in line:
                row = connection.execute(queries.FIRST_PROPOSAL, {"hash": next_hash}).one_or_none()
                if row is None:
                    raise KvolveError(f"The archive has no candidate {next_hash}.")
                line[next_hash] = queries.standing(row)
                next_hash = connection.scalar(
                    select(schema.Candidate.hash)
                    .join(schema.Parent, schema.Parent.candidate_id == schema.Candidate.id)
                    .where(schema.Parent.number == row.number, schema.Parent.position == 0)
                )
        return list(line.values())

    def steps(self) -> Iterator[records.Step]:
        """The course of the run: a line for each completed proposal, in the order of their completion."""
        query = queries.STEPS.order_by(schema.Proposal.completion)
        with transaction(self._engine) as connection:
            for row in connection.execute(query, execution_options={"yield_per": PAGE}):
                yield queries.step(row)

    def latest_steps(
        self, most: int, operator: str | None = None, models: Collection[str] | None = None
    ) -> list[records.Step]:
        """The latest steps by models (all, or these), of one operator if it is given, in the order of their
        completion.
        """
        model = schema.Proposal.model
        of_models = queries.STEPS.where(model != "" if models is None else model.in_(models))
        query = of_models.order_by(schema.Proposal.completion.desc()).limit(most)
        if operator is not None:
            query = query.where(schema.Proposal.operator == operator)
        with transaction(self._engine) as connection:
            return [queries.step(row) for row in reversed(connection.execute(query).all())]

    def gain(self, number: int) -> float:
        """What the grid gained by a proposal: `Step.gain`; 0 for what was never offered to it."""
        with transaction(self._engine) as connection:
            return connection.scalar(queries.GAIN, {"of": number}) or 0.0

    def failed_changes(self, hash: str, completed: int, most: int) -> list[records.Failure]:
        """Changes of a candidate that failed, the newest first, among the first `completed` results."""
        asked = {"hash": hash, "completed": completed, "most": most}
        with transaction(self._engine) as connection:
            rows = connection.execute(queries.FAILED_CHANGES, asked).all()
            unpack = partial(self._texts.unpack, connection)
            return [records.Failure(unpack(row[0]), row[1], unpack(row[2])) for row in rows]

    def requests(self, first: int) -> list[records.RequestRecord]:
        """What was noted of proposals from number `first` on, that are perhaps not stored themselves."""
        request = schema.Request
        query = (
            select(request.number, request.asked, request.remeasured, request.choice, request.drafts)
            .add_columns(schema.Candidate.hash)
            .join(schema.Candidate, schema.Candidate.id == request.candidate_id)
            .where(request.number >= first)
            .order_by(request.number, request.position)
        )
        with transaction(self._engine) as connection:
            rows = connection.execute(query).all()
        noted = ((number, list(of_number)) for number, of_number in groupby(rows, key=itemgetter(0)))
        return [
            records.RequestRecord(number, tuple(row.hash for row in of_number), *tuple(of_number[0])[1:-1])
            for number, of_number in noted
        ]

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
            counts = {str(failure): times for failure, times in connection.execute(query)}
        # Every database has its own idea of the order of strings: they are sorted here, and below.
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

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
        )
        counts: dict[str, dict[records.DuplicateKind, int]] = {}
        with transaction(self._engine) as connection:
            for operator, kind_name, times in sorted(connection.execute(query), key=itemgetter(0)):
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

    def measured_again(self) -> int:
        """Further measurements of candidates, at all stages."""
        with transaction(self._engine) as connection:
            return connection.scalar(select(func.count()).select_from(schema.Sample)) or 0

    def undone(self) -> int:
        """Promotions that did not hold: a best candidate or an elite fell below whom it had replaced."""
        kind = schema.Event.kind == "undone"
        with transaction(self._engine) as connection:
            return connection.scalar(select(func.count()).where(kind)) or 0

    def operator_counts(self) -> dict[str, records.OperatorCount]:
        """How each operator fared, by name."""
        query = select(
            schema.Proposal.operator,
            func.count(),
            func.count(schema.Proposal.score),
            func.count(case((queries.BECAME_ELITE, 1))),
        ).group_by(schema.Proposal.operator)
        with transaction(self._engine) as connection:
            rows = sorted(connection.execute(query), key=itemgetter(0))
        return {row[0]: records.OperatorCount(*row[1:]) for row in rows}

    def cost(self) -> records.Cost:
        """Tokens and dollars of all model calls, those among them whose proposal never came."""
        query = select(
            func.coalesce(func.sum(schema.ModelCall.tokens_in), 0),
            func.coalesce(func.sum(schema.ModelCall.tokens_out), 0),
            func.coalesce(func.sum(schema.ModelCall.cost_usd), 0.0),
            func.coalesce(func.sum(schema.ModelCall.tokens_reasoning), 0),
            func.count(),
        )
        with transaction(self._engine) as connection:
            return records.Cost(*connection.execute(query).one())

    def yields(self) -> list[records.Yield]:
        """What every model came to with every operator, by name."""
        with transaction(self._engine) as connection:
            costs = {(row[0], row[1]): records.Cost(*row[2:]) for row in connection.execute(queries.COSTS)}
            came = {(row[0], row[1]): tuple(row)[2:] for row in connection.execute(queries.YIELDS)}
            shown: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
            for model, operator, patterns, times in connection.execute(queries.PATTERNS):
                for pattern in patterns.split(queries.SEPARATOR):
                    shown[model, operator][pattern] += times
        yields = []
        for model, operator in sorted(costs.keys() | came.keys()):
            proposals, scored, elite, gain, changed = came.get((model, operator), (0, 0, 0, 0.0, 0))
            cost = costs.get((model, operator), records.Cost(0, 0, 0.0))
            patterns = dict(sorted(shown[model, operator].items()))
            yields.append(
                records.Yield(model, operator, cost, proposals, scored, elite, gain, changed, patterns)
            )
        return yields

    def calls(self, number: int) -> list[records.CallRecord]:
        """The model calls made for a proposal, in their order, whether the proposal exists or not."""
        with transaction(self._engine) as connection:
            rows = connection.execute(queries.CALLS, {"of": number}).mappings().all()
            return [self._call(connection, row) for row in rows]

    def highest_call(self) -> int:
        """The highest number of a proposal for which a model call is stored; -1 where there is none."""
        with transaction(self._engine) as connection:
            highest = connection.scalar(select(func.max(schema.ModelCall.number)))
        return -1 if highest is None else highest

    def latest_call(self, operator: str, before: int) -> records.CallRecord | None:
        """The last call of an operator for a proposal with a number below `before`."""
        asked = {"operator": operator, "before": before}
        with transaction(self._engine) as connection:
            row = connection.execute(queries.LATEST_CALL, asked).mappings().one_or_none()
            return None if row is None else self._call(connection, row)

    def _call(self, connection: Connection, row: RowMapping) -> records.CallRecord:
        texts = {name: self._texts.unpack(connection, row[name]) for name in ("prompt", "reply")}
        return records.CallRecord(**{**row, **texts})

    def events(self) -> list[records.Event]:
        """Everything worth telling, in the order in which it happened."""
        query = select(schema.Event.at, schema.Event.kind, schema.Event.text).order_by(schema.Event.id)
        with transaction(self._engine) as connection:
            return [records.Event(*row) for row in connection.execute(query)]

    def content_hash(self) -> str:
        """SHA-256 of all that has to be equal when a deterministic run is repeated; see `fingerprint`."""
        with transaction(self._engine) as connection:
            return content_hash(connection, self.run)
