"""The way of one candidate through the stages, until one fails, a known candidate is met, or all are done."""

import asyncio
import math
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

import msgpack
from pydantic import TypeAdapter

from database.archive import Archive
from database.records import DuplicateKind, EvaluationRecord, Known, candidate_hash
from evaluators.evaluation import FailureKind, Verdict
from evaluators.problem import Inputs, Problem
from evolve.normalise import names_in, normal_hash
from evolve.streams import stream
from sandbox.screen import screen

if TYPE_CHECKING:
    from sandbox.pool import Pool
    from sandbox.task import Outcome

    Result = asyncio.Future[EvaluationRecord]

VERDICT = TypeAdapter(Verdict)
RETESTED = 0.1  # share of the behavioural duplicates that are evaluated all the same


@dataclass(frozen=True)
class Settled:
    """What the archive is to keep of an evaluation: see `Archive.add_evaluation`."""

    evaluation: EvaluationRecord
    repeats: DuplicateKind = DuplicateKind.BEHAVIOURAL
    agreed: bool | None = None


class Cascade:
    """Takes candidates through screen, probe and search; later stages are asked for one by one.

    What is known is not evaluated again, be it in the archive or still under way. That only saves work: who
    repeats whom is settled when a result enters the archive, so that it does not depend on who was faster.
    """

    def __init__(self, problem: Problem, inputs: Inputs, archive: Archive, pool: "Pool") -> None:
        self.problem = problem
        self.inputs = inputs
        self.archive = archive
        self.pool = pool
        self.interface = names_in(problem.interface)
        self.tickets = count()  # candidates are settled in the order in which they came
        self.programs: dict[str, Result] = {}  # under way, or waiting to be settled
        self.behaviours: dict[str, tuple[int, Result]] = {}  # beyond the probe, with their tickets

    async def evaluate(self, source: str, trusted: bool = False) -> EvaluationRecord:
        """The evaluation of a candidate; `trusted` sources (bounds) skip the screen and the look for
        duplicates.
        """
        if trusted:
            probe = await self.stage(source, "probe")
            return probe if probe.failure else await self._search(source, probe)
        if refusals := screen(source, self.problem.language):
            message = "\n".join(map(str, refusals[:5]))
            return self._failed("probe", FailureKind.SCREEN.value, message)
        normal = normal_hash(source, self.interface)
        if known := self._known_program(source, normal):
            return known
        if (earlier := self.programs.get(normal)) is not None:
            return await asyncio.shield(earlier)
        result: Result = asyncio.get_running_loop().create_future()
        self.programs[normal] = result
        try:
            result.set_result(replace(await self._measured(source, normal, result), normal=normal))
        finally:
            result.cancel()  # without a result nobody is to wait for it
        return result.result()

    def settled(self, evaluation: EvaluationRecord) -> Settled:
        """What the archive is to keep of an evaluation, everything before it being in the archive."""
        self.programs.pop(evaluation.normal, None)
        self.behaviours.pop(evaluation.behaviour, None)
        if (same := self.archive.find_normal(evaluation.normal)) is not None:
            return Settled(_reused(same, evaluation.normal), DuplicateKind.NORMALISED)
        known = self.archive.find_behaviour(evaluation.behaviour, "search")
        if known is None or evaluation.duplicate_of:
            return Settled(evaluation)
        if not self._is_retested(evaluation.normal):
            return Settled(_reused(known, evaluation.normal))
        if _agree(known.evaluation, evaluation):
            return Settled(_reused(known, evaluation.normal), agreed=True)
        return Settled(evaluation, agreed=False)

    async def stage(self, source: str, stage: str) -> EvaluationRecord:
        """The result of one stage."""
        return self._record(stage, await self.pool.submit(source, stage))

    async def _measured(self, source: str, normal: str, result: "Result") -> EvaluationRecord:
        ticket = next(self.tickets)
        probe = await self.stage(source, "probe")
        if probe.failure:
            return probe
        if probe.behaviour and not self._is_retested(normal):
            if known := self.archive.find_behaviour(probe.behaviour, "search"):
                return _reused(known, normal)
            first, earlier = self.behaviours.setdefault(probe.behaviour, (ticket, result))
            if first < ticket:  # only what is settled earlier may be taken over
                await asyncio.wait({earlier})
                if not earlier.cancelled() and earlier.result().score is not None:
                    return earlier.result()
        return await self._search(source, probe)

    async def _search(self, source: str, probe: EvaluationRecord) -> EvaluationRecord:
        return replace(await self.stage(source, "search"), behaviour=probe.behaviour)

    def _known_program(self, source: str, normal: str) -> EvaluationRecord | None:
        """The result that an equal source or an equal program has got."""
        if found := self.archive.find_source(hash := candidate_hash(source)):
            return _reused(Known(hash, found), normal)
        same = self.archive.find_normal(normal)
        return None if same is None else _reused(same, normal)

    def _is_retested(self, normal: str) -> bool:
        """Whether a program is evaluated though it behaves like a known one; drawn by its hash, so that it
        does not depend on when that is found out.
        """
        drawn = stream(self.archive.run.seed, int(normal[:15], 16), "retest")
        return bool(drawn.random() < RETESTED)

    def _record(self, stage: str, outcome: "Outcome") -> EvaluationRecord:
        if outcome.failure is not None:
            return self._failed(stage, outcome.failure, outcome.message, outcome.wall_s)
        verdict = VERDICT.validate_python(outcome.value)
        return EvaluationRecord(
            stage=stage,
            split=self.inputs.splits[stage],
            score=verdict.score,
            feedback=verdict.feedback,
            behaviour=verdict.behaviour,
            metrics=verdict.metrics,
            descriptors=verdict.descriptors,
            samples=msgpack.packb(verdict.samples),
            wall_s=outcome.wall_s,
        )

    def _failed(self, stage: str, failure: str, message: str, wall_s: float = 0.0) -> EvaluationRecord:
        return EvaluationRecord(
            stage=stage,
            split=self.inputs.splits[stage],
            failure=FailureKind(failure).value,
            message=message,
            wall_s=wall_s,
        )


def _reused(known: Known, normal: str) -> EvaluationRecord:
    """The result of a known candidate, marked as taken over from whoever earned it."""
    earner = known.evaluation.duplicate_of or known.hash
    return replace(known.evaluation, duplicate_of=earner, normal=normal, wall_s=0.0)


def _agree(known: EvaluationRecord, again: EvaluationRecord) -> bool:
    """Whether a re-test came to the same score; where scores are noisy, most re-tests collide."""
    return again.score is not None and known.score is not None and math.isclose(known.score, again.score)
