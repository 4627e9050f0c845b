"""The way of one candidate through the stages, until one fails, a known behaviour is met, or all are done."""

from dataclasses import replace
from typing import TYPE_CHECKING

import msgpack
from pydantic import TypeAdapter

from database.archive import Archive
from database.records import EvaluationRecord, candidate_hash
from evaluators.evaluation import FailureKind, Verdict
from evaluators.problem import Inputs, Problem
from sandbox.screen import screen

if TYPE_CHECKING:
    from sandbox.pool import Pool
    from sandbox.task import Outcome

VERDICT = TypeAdapter(Verdict)


class Cascade:
    """Takes candidates through screen, probe and search; later stages are asked for one by one."""

    def __init__(self, problem: Problem, inputs: Inputs, archive: Archive, pool: "Pool") -> None:
        self.problem = problem
        self.inputs = inputs
        self.archive = archive
        self.pool = pool

    async def evaluate(self, source: str, trusted: bool = False) -> EvaluationRecord:
        """The evaluation of a candidate; `trusted` sources (bounds) skip the screen and the look for
        duplicates.
        """
        if not trusted:
            if refusals := screen(source, self.problem.language):
                message = "\n".join(map(str, refusals[:5]))
                return self._failed("probe", FailureKind.SCREEN.value, message)
            if known := self.archive.find_source(candidate_hash(source)):
                return replace(known, duplicate_of=known.duplicate_of or candidate_hash(source))
        probe = await self.stage(source, "probe")
        if probe.failure:
            return probe
        if not trusted and (known := self.known(probe.behaviour)):
            return known
        return replace(await self.stage(source, "search"), behaviour=probe.behaviour)

    async def stage(self, source: str, stage: str) -> EvaluationRecord:
        """The result of one stage."""
        return self._record(stage, await self.pool.submit(source, stage))

    def known(self, behaviour: str) -> EvaluationRecord | None:
        """The result of a candidate that decided the same on the probe, marked as its duplicate."""
        known = self.archive.find_behaviour(behaviour, "search")
        return replace(known.evaluation, duplicate_of=known.hash, wall_s=0.0) if known else None

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
