"""The archive of one run: what the loop writes, and the grid from which it samples parents."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Self

from sqlalchemy import Connection, Engine, bindparam, delete, insert, inspect, update

from database import schema
from database.connection import display_name, open_engine, transaction
from database.grid import Grid, cell_of, cells
from database.migrations import ensure_current, upgrade
from database.reader import Reader
from database.records import (
    CallRecord,
    DuplicateKind,
    Elite,
    EvaluationRecord,
    Placement,
    ProposalRecord,
    RequestRecord,
    RunRecord,
    SampleRecord,
    candidate_hash,
)
from database.rows import (
    Pending,
    check_finite,
    estimate,
    first_result,
    load_grid,
    load_pending,
    load_results,
    measurements,
    parent_score,
    require_candidate,
    store_call,
    store_elite,
    store_evaluation,
    store_event,
    store_proposal,
    store_request,
    store_result,
    store_sample,
    store_seat,
)
from database.texts import is_training_due
from kvolve import KvolveError

COMPLETE = update(schema.Proposal).where(schema.Proposal.number == bindparam("of"))
RESTATE = COMPLETE.values(score=bindparam("score"))


class Archive(Reader):
    """Proposals, candidates and evaluations of a run, and the MAP-Elites grid of its islands.

    Every change is one transaction: it is wholly there after a crash, or not at all. The writer keeps the
    grid in memory beside the tables and may be used by one thread at a time; a read-only archive reads the
    grid anew for every question. Hold `archive_lock` while writing.
    """

    def __init__(self, engine: Engine, read_only: bool) -> None:
        super().__init__(engine)
        self._read_only = read_only
        self.last_asked = -1  # the highest number of a proposal with a model call, for the writer
        self._completed = 0
        self._kept: set[int] = set()
        self._completing: tuple[int, int] | None = None  # number and completion, in the present change
        if not read_only:
            self._load()

    @classmethod
    def create(cls, url: str, run: RunRecord) -> Self:
        """A new archive at a SQLAlchemy URL, such as sqlite:///runs/first/archive.db.

        Raises KvolveError when there is one already, or when it cannot be written.
        """
        engine = open_engine(url, "create")
        fields = asdict(run)
        fields["axes_json"] = json.dumps(fields.pop("axes"))
        fields["centroids_json"] = json.dumps(fields.pop("centroids"))
        try:
            # One transaction, so that a killed creation leaves nothing that looks like an archive.
            with transaction(engine, writing=True) as connection:
                if inspect(connection).get_table_names():
                    raise KvolveError(
                        f"{display_name(engine.url)} exists already. "
                        "`kvolve resume` goes on with it; a new run needs another place, such as another "
                        "--run-dir."
                    )
                upgrade(connection)
                connection.execute(insert(schema.Run), fields)
            return cls(engine, read_only=False)
        except BaseException:
            engine.dispose()
            raise

    @classmethod
    def open(cls, url: str, read_only: bool = False) -> Self:
        """The archive at a SQLAlchemy URL; an older one is migrated first, unless it is opened read-only.

        Raises KvolveError when there is none, when it is damaged or from a newer kvolve, or cannot be
        written.
        """
        engine = open_engine(url, "read" if read_only else "write")
        try:
            ensure_current(engine, read_only)
            return cls(engine, read_only)
        except BaseException:
            engine.dispose()
            raise

    def close(self) -> None:
        """Gives back the connections to the database."""
        self._engine.dispose()

    def add_call(self, call: CallRecord) -> None:
        """Stores a model call as soon as its reply is there, so that no paid reply is asked for twice.

        Raises ValueError when there is one of this number and position already.
        """
        with self._change() as connection:
            store_call(connection, self._texts, call)
        self.last_asked = max(self.last_asked, call.number)

    def add_proposal(self, proposal: ProposalRecord) -> str:
        """Stores a proposal before its evaluation begins, its source only if it is new; returns the hash.

        Raises ValueError when the number is taken or a parent is unknown.
        """
        return self.add_proposals([proposal])[0]

    def add_proposals(self, proposals: Sequence[ProposalRecord]) -> list[str]:
        """Stores proposals that were made together, all of them or none; returns the hashes."""
        stored = {}
        with self._change() as connection:
            for proposal in proposals:
                hash = candidate_hash(proposal.source)
                candidate_id = store_proposal(connection, self._texts, proposal, hash)
                stored[proposal.number] = Pending(candidate_id, hash, proposal.island)
        self._pending |= stored
        return [pending.hash for pending in stored.values()]

    def add_evaluation(
        self,
        number: int,
        evaluation: EvaluationRecord,
        *,
        enter_grid: bool = True,
        islands: tuple[int, ...] | None = None,
        repeats: DuplicateKind = DuplicateKind.BEHAVIOURAL,
        agreed: bool | None = None,
        sample: SampleRecord | None = None,
        requests: Sequence[RequestRecord] = (),
    ) -> Placement | None:
        """Completes a proposal: stores its evaluation, offers the candidate to the grid, lets elites migrate.

        The candidate is offered to `islands`, by default to that of its proposal. Returns what became of it
        (the best of several islands), or None when it was not offered: a failure, a duplicate, or not
        `enter_grid` (a bound). `repeats` says how an evaluation with `duplicate_of` repeats that candidate,
        `agreed` how the re-test of one came out, `sample` what was measured of that candidate besides.
        `requests` is what proposals that are not stored yet were to start from before this one was completed.
        A source that completed a proposal before is an exact duplicate, whatever `evaluation` says: the first
        result stays. Raises ValueError when the proposal is not pending, or a score or descriptor is not
        finite.
        """
        if number not in self._pending:
            raise ValueError(f"proposal {number} is not pending")
        check_finite(evaluation)
        pending = self._pending[number]
        with self._change() as connection:
            original, score, placement, gain = evaluation.duplicate_of, None, None, None
            if (first := first_result(connection, pending.candidate_id)) is not None:
                evaluation_id, original = first
                repeats = DuplicateKind.EXACT
            else:
                evaluation_id, _ = store_evaluation(connection, self._texts, pending.candidate_id, evaluation)
            if original is None and evaluation.score is not None:
                score = float(evaluation.score)  # SQLite would store NumPy's floats as bytes
            if enter_grid and score is not None:
                homes = (pending.island,) if islands is None else islands
                cell = cell_of(self.run, evaluation.descriptors)
                offers = [
                    Elite(island, cell, pending.hash, score, number, evaluation.noisy, measured=number)
                    for island in homes
                ]
                before = self._grid.holder(pending.island, cell)
                placement = self._place(connection, offers)
                rival = before.score if before else parent_score(connection, number, evaluation.stage)
                if rival is not None:
                    gain = 0.0 if placement is Placement.REJECTED else max(0.0, score - rival)
            outcome = {
                "evaluation_id": evaluation_id,
                "duplicate_of_id": None if original is None else require_candidate(connection, original),
                "duplicate_kind": repeats if original else None,
                "agreed": agreed,
                "score": score,
                "placement": placement,
                "gain": gain,
            }
            if sample is not None:
                self._measure(connection, sample)
            self._complete(connection, number, outcome, requests)
        return placement

    def add_measurement(
        self, number: int, sample: SampleRecord, *, requests: Sequence[RequestRecord] = ()
    ) -> None:
        """Completes a proposal that measures a candidate once more, and takes over what that comes to.

        The candidate's score becomes the mean of its measurements. A promotion that does not hold is undone.
        Raises ValueError when the proposal is not pending, or the score is not finite.
        """
        if number not in self._pending:
            raise ValueError(f"proposal {number} is not pending")
        check_finite(sample)
        with self._change() as connection:
            self._measure(connection, sample)
            self._complete(connection, number, {}, requests)  # the sample says it all

    def keep_result(self, number: int, result: EvaluationRecord | SampleRecord) -> None:
        """Stores what a pending proposal came to until its turn to enter the archive has come."""
        with self._change() as connection:
            store_result(connection, number, result)
        self._kept.add(number)

    def kept_results(self) -> dict[int, EvaluationRecord | SampleRecord]:
        """What pending proposals came to whose turn has not come, by number."""
        with transaction(self._engine) as connection:
            return load_results(connection)

    def add_validation(self, hash: str, evaluation: EvaluationRecord) -> None:
        """Stores a later evaluation of a candidate, such as validation or holdout; it never touches the grid.

        It is noted as an event, too. Raises ValueError when the candidate is unknown, or has a result of this
        stage and split already.
        """
        check_finite(evaluation)
        with self._change() as connection:
            candidate_id = require_candidate(connection, hash)
            _, is_new = store_evaluation(connection, self._texts, candidate_id, evaluation)
            if not is_new:
                raise ValueError(f"candidate {hash} has a result of stage {evaluation.stage} already")
            self._tell(connection, hash, evaluation)

    def add_sample(self, sample: SampleRecord) -> None:
        """Stores a further measurement of a later stage; it is noted as an event, too.

        Raises ValueError when the candidate is unknown, or has a measurement of this stage and number.
        """
        check_finite(sample)
        with self._change() as connection:
            store_sample(connection, sample)
            self._tell(connection, sample.hash, sample)

    def add_event(self, kind: str, text: str) -> None:
        """Notes something worth telling, with the present time."""
        with self._change() as connection:
            store_event(connection, kind, text)

    def elites(self, island: int | None = None) -> list[Elite]:
        """Elites of an island, or of all, in the order in which their cells were filled."""
        return self._present_grid().elites(island)

    def holders(self) -> list[Elite]:
        """All elites, and those whom a noisy score has displaced but who may get their cell back."""
        return self._present_grid().holders()

    def best(self) -> Elite | None:
        """The elite with the highest score; of equal ones the earliest proposal."""
        return self._present_grid().best

    def sample_elite(self, island: int, choose: Callable[[int], int]) -> Elite:
        """A parent: the elite of cell `choose(number of filled cells)` of an island, in O(1).

        Raises LookupError while the island has no elite.
        """
        return self._present_grid().sample(island, choose)

    def coverage(self) -> float:
        """Share of all cells that some island has filled."""
        return len(self._present_grid().best_by_cell()) / cells(self.run)

    def qd_score(self) -> float:
        """Sum of the best score of every filled cell (Pugh et al. 2016); negative scores are not shifted."""
        return math.fsum(elite.score for elite in self._present_grid().best_by_cell().values())

    def _present_grid(self) -> Grid:
        if not self._read_only:
            return self._grid
        with transaction(self._engine) as connection:
            return load_grid(connection, self.run.islands)

    def _load(self) -> None:
        """Reads what the writer keeps in memory, and finds out now whether it can be written."""
        with transaction(self._engine, writing=True) as connection:
            self._grid = load_grid(connection, self.run.islands)
            self._pending = load_pending(connection)
            self._kept = set(load_results(connection))
            self._texts.load(connection)
        self._completed = self.completed()
        self.last_asked = self.highest_call()

    @contextmanager
    def _change(self) -> Iterator[Connection]:
        """One writing transaction; when it fails, the memory goes back to what the database holds."""
        if self._read_only:
            raise ValueError("this archive was opened read-only")
        try:
            self._completing = None
            with transaction(self._engine, writing=True) as connection:
                yield connection
            if self._completing is not None:
                number, self._completed = self._completing
                del self._pending[number]
                self._kept.discard(number)
        except BaseException:
            with transaction(self._engine) as connection:
                self._grid = load_grid(connection, self.run.islands)
                self._texts.load(connection)
            raise

    def _place(self, connection: Connection, offers: list[Elite]) -> Placement:
        """Offers a candidate to islands; returns the best that became of it."""
        best_before = self._grid.best
        placements = []
        for offer in offers:
            placements.append(self._grid.place(offer))
            store_elite(connection, self._grid, placements[-1], offer)
        self._tell_best(connection, best_before)
        return min(placements, key=list(Placement).index)

    def _measure(self, connection: Connection, sample: SampleRecord) -> None:
        """Stores a further measurement and restates the candidate's score, in the grid as well."""
        store_sample(connection, sample)
        candidate_id = require_candidate(connection, sample.hash)
        measured = measurements(connection, candidate_id, sample.stage)
        if sample.score is None or not measured:
            return
        came_to = estimate(measured)
        connection.execute(RESTATE, {"of": measured[0][0], "score": came_to["score"]})
        best_before = self._grid.best
        back = self._grid.restate(sample.hash, **came_to)
        for elite in back:
            store_seat(connection, self._grid, elite.island, elite.cell)
        best = self._grid.best
        if best_before is not None and best is not None and best_before.hash == sample.hash != best.hash:
            back.append(best)
        if back:
            text = f"candidate {sample.hash[:12]} fell to {came_to['score']:.6g} when measured again"
            names = ", ".join(sorted({elite.hash[:12] for elite in back}))
            store_event(connection, "undone", f"{text} and gave way to {names}")
        self._tell_best(connection, best_before)

    def _tell_best(self, connection: Connection, before: Elite | None) -> None:
        best = self._grid.best
        if best is not None and (before is None or (best.hash, best.score) != (before.hash, before.score)):
            text = f"candidate {best.hash[:12]} of proposal {best.number} scores {best.score:.6g}"
            store_event(connection, "best", text)

    def _tell(self, connection: Connection, hash: str, result: EvaluationRecord | SampleRecord) -> None:
        text = result.failure if result.score is None else f"{result.score:.6g}"
        store_event(connection, result.stage, f"candidate {hash[:12]}: {text}")

    def _complete(
        self,
        connection: Connection,
        number: int,
        outcome: Mapping[str, object],
        requests: Sequence[RequestRecord],
    ) -> None:
        """Completes a proposal, as the last step of a change, with what is due after so many of them."""
        for request in requests:
            store_request(connection, request)
        completion = self._completed + 1
        connection.execute(COMPLETE, {**outcome, "of": number, "completion": completion})
        if number in self._kept:
            connection.execute(delete(schema.Result).where(schema.Result.number == number))
        if self.run.migration_interval and completion % self.run.migration_interval == 0:
            self._migrate(connection)
        if is_training_due(completion):
            self._texts.train(connection, completion)
        self._completing = number, completion

    def _migrate(self, connection: Connection) -> None:
        migrants = self._grid.migrate()
        for placement, elite in migrants:
            store_elite(connection, self._grid, placement, elite)
        if migrants:
            store_event(connection, "migration", f"{len(migrants)} elites found a place on the next island")
