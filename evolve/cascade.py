"""The way of one candidate through the stages, until one fails, a known candidate is met, or all are done."""

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgpack
from pydantic import TypeAdapter

from database.archive import Archive
from database.records import DuplicateKind, EvaluationRecord, Known, SampleRecord, candidate_hash
from evaluators.evaluation import FailureKind, Verdict
from evaluators.problem import Inputs, Problem
from evolve.normalise import names_in, normal_hash
from evolve.remeasure import MOST
from evolve.streams import stream
from sandbox.screen import screen

if TYPE_CHECKING:
    from sandbox.pool import Pool
    from sandbox.task import Outcome

    Result = asyncio.Future[EvaluationRecord]

VERDICT = TypeAdapter(Verdict)
RETESTED = 0.1  # share of the behavioural duplicates that are compared on the second probe, too


@dataclass(frozen=True)
class Settled:
    """What the archive is to keep of an evaluation: see `Archive.add_evaluation`."""

    evaluation: EvaluationRecord
    repeats: DuplicateKind = DuplicateKind.BEHAVIOURAL
    agreed: bool | None = None
    sample: SampleRecord | None = None


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
        self.programs: dict[str, Result] = {}  # under way, or waiting to be settled
        self.behaviours: dict[str, tuple[int, Result]] = {}  # beyond the probe, with their numbers

    async def evaluate(self, number: int, source: str, trusted: bool = False) -> EvaluationRecord:
        """The evaluation of proposal `number`; `trusted` sources (bounds) skip the screen and the look for
        duplicates.
        """
        if trusted:
            probe = await self.stage(source, "probe")
            return probe if probe.failure else await self._search(source, probe)
        if refusals := screen(source, self.problem.language):
            message = "\n".join(map(str, refusals[:5]))
            kind = FailureKind.SYNTAX if refusals[0].construct == "syntax" else FailureKind.SCREEN
            return self._failed("probe", kind.value, message)
        normal = normal_hash(source, self.interface)
        if known := self._known_program(source, normal):
            return known
        if (earlier := self.programs.get(normal)) is not None:
            return await asyncio.shield(earlier)
        result: Result = asyncio.get_running_loop().create_future()
        self.programs[normal] = result
        try:
            result.set_result(replace(await self._measured(number, source, normal, result), normal=normal))
        finally:
            result.cancel()  # without a result nobody is to wait for it
        return result.result()

    def recall(self, number: int, evaluation: EvaluationRecord) -> None:
        """Takes up a result from before a kill, which is still to be settled."""
        if evaluation.duplicate_of is None and evaluation.normal:
            result: Result = asyncio.get_running_loop().create_future()
            result.set_result(evaluation)
            self.programs.setdefault(evaluation.normal, result)
            if evaluation.behaviour:
                self.behaviours.setdefault(evaluation.behaviour, (number, result))

    async def settled(self, number: int, source: str, evaluation: EvaluationRecord) -> Settled:
        """What the archive is to keep of proposal `number`, everything before it being in the archive.

        What a duplicate has to be measured for is measured now, so that it does not depend on when it was
        found out.
        """
        self.programs.pop(evaluation.normal, None)
        self.behaviours.pop(evaluation.behaviour, None)
        if (same := self.archive.find_normal(evaluation.normal)) is not None:
            return await self._repeated(number, same, Settled(evaluation, DuplicateKind.NORMALISED))
        known = self.archive.find_behaviour(evaluation.behaviour, "search")
        if known is None:
            return Settled(evaluation)
        agreed = None
        if self._is_retested(evaluation.normal):
            agreed = await self._agree(known, source)
        if agreed is not False:
            return await self._repeated(number, known, Settled(evaluation, agreed=agreed))
        if evaluation.duplicate_of is not None:
            evaluation = replace(await self._search(source, evaluation), normal=evaluation.normal)
        return Settled(evaluation, agreed=False)

    async def measure_again(self, source: str, number: int) -> SampleRecord:
        """One more measurement of a candidate in the search, with the random numbers of proposal `number`."""
        return sample_of(candidate_hash(source), number, await self.stage(source, "search", number))

    async def stage(self, source: str, stage: str, sample: int = 0) -> EvaluationRecord:
        """The result of one stage; `sample` as in `sandbox.task.Judge.examine`."""
        return self._record(stage, await self.pool.submit(source, stage, sample))

    async def _measured(self, number: int, source: str, normal: str, result: "Result") -> EvaluationRecord:
        probe = await self.stage(source, "probe")
        if probe.failure:
            return probe
        if probe.behaviour:
            if known := self.archive.find_behaviour(probe.behaviour, "search"):
                return _reused(known, normal)
            first, earlier = self.behaviours.setdefault(probe.behaviour, (number, result))
            if first < number:  # only what is settled earlier may be taken over
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

    async def _repeated(self, number: int, known: Known, settled: Settled) -> Settled:
        """The result of a known candidate; if that is noisy, one more measurement of it comes along."""
        evaluation = _reused(known, settled.evaluation.normal)
        earner, sample = evaluation.duplicate_of, None
        if evaluation.noisy and earner and 1 + len(self.archive.samples(earner, "search")) < MOST:
            sample = await self.measure_again(self.archive.candidate(earner).source, number)
        return replace(settled, evaluation=evaluation, sample=sample)

    async def _agree(self, known: Known, source: str) -> bool:
        """Whether a program decides like a known candidate on the second probe, too."""
        same = self.archive.candidate(known.hash).source
        one, other = await asyncio.gather(*(self.stage(each, "second_probe") for each in (same, source)))
        return (one.behaviour, one.failure) == (other.behaviour, other.failure)

    def _is_retested(self, normal: str) -> bool:
        """Whether a program that behaves like a known one is looked at again; drawn by its hash."""
        if "second_probe" not in self.problem.stages:
            return False
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
            noisy=verdict.noisy,
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


def sample_of(hash: str, number: int, measured: EvaluationRecord) -> SampleRecord:
    """An evaluation as a further measurement of a candidate."""
    return SampleRecord(
        hash,
        measured.stage,
        measured.split,
        number,
        measured.score,
        measured.failure,
        measured.samples,
        measured.wall_s,
    )
