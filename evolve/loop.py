"""The discovery loop: proposals and evaluations overlap in a steady state; the archive learns of each
result.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from database.archive import Archive
from database.records import EvaluationRecord, Placement, ProposalRecord
from evolve.cascade import Cascade
from evolve.proposer import Draft, Parent, Proposer, Request
from evolve.settings import Settings
from evolve.streams import stream
from kvolve import KvolveError

if TYPE_CHECKING:
    from numpy.random import Generator

RANKS_TO_HALF = 3

# number, operator, evaluation, and where the grid put the candidate
Observer = Callable[[int, str, EvaluationRecord, Placement | None], None]


class Loop:
    """Runs proposals through the cascade until the budget of the run is spent.

    In deterministic mode proposal n is made when exactly the results up to n - look_ahead are in the
    archive, and results enter it in the order of their proposals: the archive does not depend on the number
    of workers, on their speed, or on when a run was killed and resumed.
    """

    def __init__(
        self, settings: Settings, cascade: Cascade, archive: Archive, proposer: Proposer, observe: Observer
    ) -> None:
        self.settings = settings
        self.cascade = cascade
        self.archive = archive
        self.proposer = proposer
        self.observe = observe
        self.seeds = cascade.problem.seeds()[: settings.max_evaluations]
        self.next = archive.next_number()
        self.inserted = archive.completed()
        self.operators: dict[int, str] = {}
        self.flying: dict[int, asyncio.Task[EvaluationRecord]] = {}
        self.stopping = False
        self.deadline = time.monotonic() + (settings.max_minutes or 1e9) * 60

    def stop(self) -> None:
        """No new evaluations; what is under way is finished and kept."""
        self.stopping = True

    async def run(self) -> None:
        """Evaluates what is pending, then proposes and evaluates until the budget is spent."""
        try:
            for proposal in self.archive.pending():
                self._launch(proposal)
            await self._propose()
            while self.flying:
                number = await self._next_result()
                self._insert(number, self.flying.pop(number).result())
                await self._propose()
        finally:
            for task in self.flying.values():
                task.cancel()

    async def _next_result(self) -> int:
        """The number of the result that enters the archive next."""
        if self.settings.deterministic:
            number = min(self.flying)
            await asyncio.wait({self.flying[number]})
            return number
        await asyncio.wait(self.flying.values(), return_when=asyncio.FIRST_COMPLETED)
        return min(number for number, task in self.flying.items() if task.done())

    def _insert(self, number: int, evaluation: EvaluationRecord) -> None:
        operator = self.operators.pop(number)
        # what was evaluated at the same time as its double shows only now
        if evaluation.behaviour and not evaluation.duplicate_of and operator != "bound":
            evaluation = self.cascade.known(evaluation.behaviour) or evaluation
        islands = tuple(range(self.settings.islands)) if operator == "seed" else None
        placement = self.archive.add_evaluation(
            number, evaluation, enter_grid=operator != "bound", islands=islands
        )
        self.inserted += 1
        self.observe(number, operator, evaluation, placement)

    async def _propose(self) -> None:
        """Makes all proposals that are due."""
        while self.next < len(self.seeds):
            seed = self.seeds[self.next]
            operator = "bound" if seed.role == "bound" else "seed"
            draft = Draft(operator, (), seed.source)
            self._launch(self._store(draft, detail=seed.name))
        while self._due():
            proposal = self._store(await self._draft(self.next))
            if not self._ending():
                self._launch(proposal)

    def _ending(self) -> bool:
        return self.stopping or time.monotonic() > self.deadline

    def _due(self) -> bool:
        """Whether the next proposal is to be made.

        A deterministic run that is ending still makes what is due, without evaluating it: made after a
        resume, it would start from other parents.
        """
        if self.next >= self.settings.max_evaluations or (self._ending() and not self.settings.deterministic):
            return False
        return self.inserted >= max(len(self.seeds), self.next - self.settings.look_ahead + 1)

    async def _draft(self, number: int) -> Draft:
        island = number % self.settings.islands
        choice = stream(self.settings.seed, number, "parents")
        parents = tuple(self._parent(island, choice) for _ in range(2))
        return await self.proposer.propose(
            Request(number, parents), stream(self.settings.seed, number, "proposal")
        )

    def _parent(self, island: int, random: "Generator") -> Parent:
        """An elite of the island: by rank, three ranks halving its chance, or any of them alike."""
        if not self.archive.elites(island):
            raise KvolveError(
                "No seed has a score on this recording, so there is nothing to start from. "
                "`kvolve inspect` shows why they failed."
            )
        if self.settings.selection == "uniform":
            elite = self.archive.sample_elite(island, lambda filled: int(random.integers(filled)))
        else:
            ranked = sorted(self.archive.elites(island), key=lambda elite: (-elite.score, elite.number))
            chances = 0.5 ** (np.arange(len(ranked)) / RANKS_TO_HALF)
            elite = ranked[int(random.choice(len(ranked), p=chances / chances.sum()))]
        candidate = self.archive.candidate(elite.hash)
        feedback = candidate.evaluation.feedback if candidate.evaluation else ""
        return Parent(elite.hash, candidate.source, elite.score, feedback)

    def _store(self, draft: Draft, detail: str = "") -> ProposalRecord:
        """Stores a draft before anything of it is evaluated, so that no paid-for reply is lost."""
        proposal = ProposalRecord(
            number=self.next,
            island=self.next % self.settings.islands,
            operator=draft.operator,
            parents=draft.parents,
            source=draft.source,
            prompt=draft.prompt,
            reply=draft.reply,
            tokens_in=draft.tokens_in,
            tokens_out=draft.tokens_out,
            cost_usd=draft.cost_usd,
            detail=detail,
        )
        self.archive.add_proposal(proposal)
        self.next += 1
        return proposal

    def _launch(self, proposal: ProposalRecord) -> None:
        self.operators[proposal.number] = proposal.operator
        self.flying[proposal.number] = asyncio.create_task(
            self.cascade.evaluate(proposal.source, trusted=proposal.operator == "bound")
        )
