"""The discovery loop: proposals and evaluations overlap in a steady state; the archive learns of each
result.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from database.archive import Archive
from database.records import (
    EvaluationRecord,
    Placement,
    ProposalRecord,
    RequestRecord,
    SampleRecord,
    Step,
    candidate_hash,
)
from evolve.cascade import Cascade, Settled
from evolve.problems import seeds_of_run
from evolve.proposer import Draft, Proposer, Reading, Request, parent_of
from evolve.remeasure import REMEASURE, Remeasuring
from evolve.settings import Settings
from evolve.stops import Stops
from evolve.strategies import make_strategy
from evolve.streams import stream
from kvolve import KvolveError

if TYPE_CHECKING:
    from numpy.random import Generator

PARENTS_KEPT = 512  # elites are chosen again and again; reading one anew takes longer than all else

Result = EvaluationRecord | SampleRecord

# number, operator, evaluation, and where the grid put the candidate
Observer = Callable[[int, str, EvaluationRecord, Placement | None], None]


@dataclass(frozen=True)
class Flight:
    """A proposal that is being evaluated, and the hash of its candidate."""

    proposal: ProposalRecord
    hash: str
    task: asyncio.Task[Result]


class Loop:
    """Runs proposals through the cascade until a limit of the run is reached.

    In deterministic mode the parents of proposal n are chosen when exactly the results up to n - look_ahead
    are in the archive, and results enter it in the order of their proposals: the archive does not depend on
    the number of workers, on the speed of anybody, or on when a run was stopped or killed and resumed.
    """

    def __init__(
        self, settings: Settings, cascade: Cascade, archive: Archive, proposer: Proposer, observe: Observer
    ) -> None:
        self.settings = settings
        self.cascade = cascade
        self.archive = archive
        self.proposer = proposer
        self.reading = proposer if isinstance(proposer, Reading) else None
        self.report = observe
        self.seeds = seeds_of_run(cascade.problem, settings)
        self.strategy = make_strategy(settings, archive, len(self.seeds))
        self.remeasuring = Remeasuring(archive, settings.islands)
        self.stops = Stops(settings, archive, proposer)
        self.parent = lru_cache(PARENTS_KEPT)(partial(parent_of, archive))
        self.stopping = False
        self.inserting = False  # a result enters the archive, and perhaps waits for further measurements
        self.kept: set[int] = set()  # results that are stored though their turn has not come
        self.reason: str | None = None  # why nothing more is asked for
        self.failure: KvolveError | None = None  # what the proposer cannot go on with
        self.inserted = archive.completed()
        self.next = archive.next_number()  # of the next proposal to be stored
        self.requests: dict[int, Request] = {}  # parents chosen, nothing stored yet
        self.noted: set[int] = set()  # those of them that would outlive this process
        self.owed: set[int] = set()  # those that were asked for before the run was killed
        self.again: dict[int, str] = {}  # proposals that measure a candidate again, until that is done
        self.drafting: dict[int, asyncio.Task[Draft]] = {}
        self.flying: dict[int, Flight] = {}

    def stop(self) -> None:
        """No new proposals and evaluations; what is under way is finished and kept."""
        self.stopping = True
        if stop := getattr(self.proposer, "stop", None):
            stop()
        self._call_off()

    def _call_off(self) -> None:
        """Cancels the drafts of a proposer that may never have them; a resumed run asks for them again."""
        if not getattr(self.proposer, "patient", True):
            for task in self.drafting.values():
                task.cancel()

    async def run(self) -> None:
        """Evaluates what is pending, then proposes and evaluates until there is a reason to end.

        Raises the KvolveError with which the proposer gives up, after what is under way is finished and kept.
        """
        try:
            self._take_up()
            self._choose_parents()
            self._ask()
            while self.drafting or self.flying:
                await self._something_done()
                self._store_drafts()
                if (number := self._result()) is None:
                    self._keep_results()
                else:
                    self.inserting = True
                    await self._insert(self.flying.pop(number))
                    self.inserting = False
                    self._choose_parents()
                self._ask()
        finally:
            for task in self._tasks():
                task.cancel()
        if self.failure is not None:
            self.archive.add_event("stop", str(self.failure))
            raise self.failure
        if not self.stopping:
            self.reason = self.reason or self.stops.reason(self.next)
        if self.reason is not None:
            self.archive.add_event("stop", self.reason)

    def _tasks(self) -> list[asyncio.Task[Draft] | asyncio.Task[Result]]:
        return [*self.drafting.values(), *(flight.task for flight in self.flying.values())]

    def observe(self, flight: Flight, evaluation: EvaluationRecord, placement: Placement | None) -> None:
        """Called with each result, after it is in the archive."""
        proposal = flight.proposal
        parent = proposal.parents[0] if proposal.parents else None
        score = None if placement is None else evaluation.score
        step = Step(proposal.number, proposal.operator, flight.hash, parent, score, placement)
        self.strategy.learn(step)
        self.stops.learn(step)
        if self.reading:
            gain = self.archive.gain(proposal.number) if placement else 0.0
            took = replace(step, gain=gain, duplicate_of=evaluation.duplicate_of, effort=proposal.effort)
            self.reading.learn(took)
        self.report(proposal.number, proposal.operator, evaluation, placement)

    def _take_up(self) -> None:
        """What a run left behind, then its seeds."""
        kept = self.archive.kept_results()
        for number, result in kept.items():
            if isinstance(result, EvaluationRecord):
                self.cascade.recall(number, result)
        for proposal in self.archive.pending():
            self._launch(proposal, candidate_hash(proposal.source), kept.get(proposal.number))
        if self.settings.deterministic:
            for noted in self.archive.requests(self.next):
                if noted.remeasured:
                    self.again[noted.number] = noted.parents[0]
                self._request(noted.number, noted.parents, noted.choice, noted.drafts)
                self.noted.add(noted.number)
                self.owed |= {noted.number} if noted.asked else set()
        while self.next < min(len(self.seeds), self.settings.max_evaluations):
            seed = self.seeds[self.next]
            self._store(Draft("bound" if seed.role == "bound" else "seed", (), seed.source, seed.name))

    def _choose_parents(self) -> None:
        """Chooses the parents of all proposals that are due, be they asked for now, later or never.

        After a stop the archive is no longer what they have to be chosen from.
        """
        if self.inserted < len(self.seeds):
            return
        chosen = (request.number + request.drafts for request in self.requests.values())
        number = max([self.next, len(self.seeds), *chosen])
        while number < self.inserted + self.settings.look_ahead:
            if (measured := self.remeasuring.due(number, Counter(self.again.values()))) is not None:
                self.again[number] = measured
                self._request(number, [measured])
            else:
                parents: tuple[str, ...] = self.strategy.choose(number, self._random(number, "parents"))
                if self.reading:
                    random = self._random(number, "inspirations")
                    parents += self.strategy.inspirations(number, parents, random)
                self._request(number, parents)
            number += self.requests[number].drafts

    def _request(self, number: int, parents: Iterable[str], choice: str = "", drafts: int = 1) -> None:
        request = Request(number, tuple(map(self.parent, parents)), choice=choice, drafts=drafts)
        if self.reading and number not in self.again:
            # as many results as were there when the parents were chosen, also when a resumed run looks again
            known = max(len(self.seeds), number - self.settings.look_ahead + 1)
            request = self.reading.prepare(request, known, self._random(number, "choice"))
        self.requests[number] = request

    def _random(self, number: int, purpose: str) -> "Generator":
        return stream(self.settings.seed, number, purpose)

    def _to_be_noted(self) -> list[RequestRecord]:
        """The parents chosen for what is not stored itself, to be stored when the archive goes on.

        A reply may take longer than the results that arrive meanwhile. Were the run killed or stopped in
        between, its resumption could not choose again from the archive as it was.
        """
        if not self.settings.deterministic:
            return []
        new = sorted(self.requests.keys() - self.noted)
        self.noted |= set(new)
        return [
            RequestRecord(
                number,
                tuple(parent.hash for parent in self.requests[number].parents),
                asked=number in self.drafting,
                remeasured=number in self.again,
                choice=self.requests[number].choice,
                drafts=self.requests[number].drafts,
            )
            for number in new
        ]

    def _ask(self) -> None:
        """Hands requests to the proposer, in their order, as far as the limits of the run allow."""
        for number, request in sorted(self.requests.items()):
            if number in self.drafting:
                continue
            if number not in self.owed:  # what was asked for before is asked again, whatever came since
                self.reason = self.reason or self.stops.reason(number, request)
                if self.reason is not None or self.stops.must_wait(request):
                    return
            if self.stopping or self.failure is not None:
                return
            self.stops.reserve(request)
            self.drafting[number] = asyncio.create_task(self._draft(request))

    async def _draft(self, request: Request) -> Draft:
        if request.number in self.again:
            parent = request.parents[0]
            draft = Draft(REMEASURE, (parent.hash,), parent.source)
        else:
            draft = await self.proposer.propose(request, self._random(request.number, "proposal"))
        self.stops.settle(request.number, draft)
        return draft

    async def _something_done(self) -> None:
        """Waits for a draft or a result; not at all where a result may enter the archive."""
        under_way = [task for task in self._tasks() if not task.done()]
        if under_way and self._result() is None:
            await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    def _result(self) -> int | None:
        """The number of the result that enters the archive next, if there is one."""
        if self.settings.deterministic:
            first = min(self.flying, default=None)
            return first if first is not None and self.flying[first].task.done() else None
        return min((number for number, flight in self.flying.items() if flight.task.done()), default=None)

    def _store_drafts(self) -> None:
        """Stores the drafts that are there, in the order of their numbers, and has them evaluated."""
        for number, task in list(self.drafting.items()):
            if task.cancelled():
                del self.drafting[number]
            elif task.done() and isinstance(error := task.exception(), KvolveError):
                self.failure = self.failure or error
                del self.drafting[number]
                self._call_off()
        while self.next in self.drafting and self.drafting[self.next].done():
            number, draft = self.next, self.drafting.pop(self.next).result()
            self._store(draft, *draft.more)
            del self.requests[number]
            self.noted.discard(number)
        if self.next not in self.drafting:  # what a missing draft holds up is drafted again, from its calls
            self.drafting = {number: task for number, task in self.drafting.items() if not task.done()}

    async def _insert(self, flight: Flight) -> None:
        number, operator, result = flight.proposal.number, flight.proposal.operator, flight.task.result()
        self.kept.discard(number)
        if isinstance(result, SampleRecord):
            self.archive.add_measurement(number, result, requests=self._to_be_noted())
            self.inserted += 1
            del self.again[number]
            shown = EvaluationRecord(result.stage, result.split, result.score, result.failure)
            self.observe(flight, shown, None)
            return
        if operator == "bound":
            settled = Settled(result)
        else:  # what was evaluated at the same time as its double shows only now
            settled = await self.cascade.settled(number, flight.proposal.source, result)
        placement = self.archive.add_evaluation(
            number,
            settled.evaluation,
            enter_grid=operator != "bound",
            islands=tuple(range(self.settings.islands)) if operator == "seed" else None,
            repeats=settled.repeats,
            agreed=settled.agreed,
            sample=settled.sample,
            requests=self._to_be_noted(),
        )
        self.inserted += 1
        self.observe(flight, settled.evaluation, placement)

    def _store(self, *drafts: Draft) -> None:
        """Stores drafts before anything of them is evaluated, so that a resumed run goes on with them."""
        proposals = [
            ProposalRecord(
                number=number,
                island=number % self.settings.islands,
                operator=draft.operator,
                parents=draft.parents,
                source=draft.source,
                detail=draft.detail,
                effort=draft.effort,
            )
            for number, draft in enumerate(drafts, self.next)
        ]
        hashes = self.archive.add_proposals(proposals)
        self.next += len(proposals)
        for proposal, hash in zip(proposals, hashes, strict=True):
            if not self.stopping:
                self._launch(proposal, hash)

    def _launch(self, proposal: ProposalRecord, hash: str, kept: Result | None = None) -> None:
        if proposal.number >= self.settings.max_evaluations:  # several were asked for together
            return
        if proposal.operator == REMEASURE:
            self.again[proposal.number] = hash
        task = asyncio.create_task(self._evaluate(proposal, kept))
        self.flying[proposal.number] = Flight(proposal, hash, task)

    async def _evaluate(self, proposal: ProposalRecord, kept: Result | None) -> Result:
        """What a proposal comes to; `kept` is what it came to before the run was killed."""
        if kept is not None:
            self.kept.add(proposal.number)
            return kept
        number, source = proposal.number, proposal.source
        if proposal.operator == REMEASURE:
            result: Result = await self.cascade.measure_again(source, number)
        else:
            result = await self.cascade.evaluate(number, source, trusted=proposal.operator == "bound")
        if self.inserting:  # which may take a while
            self._keep(number, result)
        return result

    def _keep_results(self) -> None:
        """Stores the results whose turn has not come, since a kill may come before."""
        for number, flight in self.flying.items():
            if flight.task.done() and number not in self.kept:
                self._keep(number, flight.task.result())

    def _keep(self, number: int, result: Result) -> None:
        self.archive.keep_result(number, result)
        self.kept.add(number)
