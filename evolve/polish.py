"""A hybrid: while models think, the built-in tuner polishes the constants of the elites that they found."""

from typing import TYPE_CHECKING

from database.archive import Archive
from database.records import Step
from evolve.builtin.tune import ALL, BUILTIN, Tuning, is_tuning
from evolve.proposer import Draft, Request, Reservation

if TYPE_CHECKING:
    from numpy.random import Generator

    from evolve.llm.proposer import LLMProposer

REMEMBERED = 16  # of the newest elites, those that are polished


class PolishingProposer:
    """Asks another proposer, and gives a share of the proposals to nested searches, which cost nothing."""

    def __init__(self, archive: Archive, asking: "LLMProposer", share: float) -> None:
        """`share` of all proposals, as long as there is something to polish."""
        self.asking = asking
        self.share = share
        self.tuning = Tuning(archive)
        self.found: list[tuple[str, float]] = []  # elites that a model found, and their scores
        for step in archive.latest_steps(ALL):
            self._remember(step)

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """A generation of a nested search at once, or else what the other proposer makes of the request."""
        if is_tuning(request):
            return self.tuning.draft(request, random)
        return await self.asking.propose(request, random)

    def prepare(self, request: Request, known: int, random: "Generator") -> Request:
        """The request for a generation, or with all that its prompt is made of."""
        if not request.choice:
            request = self._polishing(request, random)
        if is_tuning(request):
            self.tuning.note(request)
            return request
        return self.asking.prepare(request, known, random)

    def _polishing(self, request: Request, random: "Generator") -> Request:
        for hash, score in reversed(self.found):
            if (search := self.tuning.next(hash, score)) is not None:
                root, size = search
                # a generation is several proposals, all else is mostly one
                chance = self.share / (self.share + (1 - self.share) * size)
                return self.tuning.prepared(request, root, size) if random.random() < chance else request
        return request

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""
        self.tuning.learn(step)
        self._remember(step)
        self.asking.learn(step)

    def _remember(self, step: Step) -> None:
        if step.effort.model not in ("", BUILTIN) and step.entered and step.score is not None:
            self.found = [*self.found, (step.hash, step.score)][-REMEMBERED:]

    def reservation(self, request: Request) -> Reservation:
        """The most that a request can take; a generation takes nothing."""
        return Reservation() if is_tuning(request) else self.asking.reservation(request)

    def stop(self) -> None:
        """Nothing more is asked for."""
        self.asking.stop()

    async def close(self) -> None:
        """Gives connections back."""
        await self.asking.close()
