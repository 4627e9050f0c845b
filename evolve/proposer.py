"""What the loop asks of a proposer, and what it gets: the same for the built-in one, an LLM or a person."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from database.records import NO_EFFORT, Effort, Failure, Step

if TYPE_CHECKING:
    from numpy.random import Generator

    from database.archive import Archive


INSPIRATIONS = 2  # candidates that a proposer that reads is shown, beside a parent and one to cross it with


@dataclass(frozen=True)
class Parent:
    """A candidate that a proposal starts from. Its figures come from the probe and search stages only."""

    hash: str
    source: str
    score: float
    feedback: str


def parent_of(archive: "Archive", hash: str) -> Parent:
    """A candidate of the archive as a parent. Raises ValueError for one that has no score."""
    candidate = archive.candidate(hash)
    evaluation = candidate.evaluation
    if evaluation is None or evaluation.score is None:
        raise ValueError(f"candidate {hash} has no score and cannot be a parent")
    return Parent(hash, candidate.source, evaluation.score, evaluation.feedback)


@dataclass(frozen=True)
class Request:
    """One attempt asked for: change `parents[0]`; the others are there to take from.

    The rest is for proposers that read, and filled in by their `prepare`: `failures` are recent changes of
    `parents[0]` that failed, the newest first, `lessons` what was learned of the elites; `choice` is what the
    proposer has chosen to do, and `drafts` how many proposals come of that, from `number` on.
    """

    number: int
    parents: tuple[Parent, ...]
    failures: tuple[Failure, ...] = ()
    lessons: tuple[str, ...] = ()
    choice: str = ""
    drafts: int = 1


@dataclass(frozen=True)
class Draft:
    """A proposer's answer. `parents` are the hashes of those candidates that the source really comes from.

    `tokens`, in and out, and `cost_usd` are what the model calls made for it took just now. The proposer has
    stored these calls itself, each as soon as its reply was there. `effort` is what the archive is to have of
    it, whenever it was made; `more` are the further drafts of the same request.
    """

    operator: str
    parents: tuple[str, ...]
    source: str
    detail: str = ""
    tokens: int = 0
    cost_usd: float = 0.0
    effort: Effort = NO_EFFORT
    more: tuple["Draft", ...] = ()


class Proposer(Protocol):
    """Makes new candidates out of old ones."""

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """A draft for `request`; every random choice comes from `random`, so that a run can be repeated.

        Raises KvolveError when it cannot go on: the run then ends, and can be resumed.
        """

    async def close(self) -> None:
        """Gives back what it holds; called at the end of a run."""


@runtime_checkable
class Reading(Protocol):
    """A proposer that reads the archive, and learns from it; one without these methods does neither."""

    def prepare(self, request: Request, known: int, random: "Generator") -> Request:
        """`request` with what is read and chosen for it; a choice that is there already is kept.

        Called when the parents are chosen, so that it depends on the archive as it is then: the first `known`
        results are those that any run with these settings has by then.
        """

    def learn(self, step: Step) -> None:
        """Told of each completed proposal, in their order."""


@dataclass(frozen=True)
class Reservation:
    """The most that one request can take, tokens in and out together."""

    tokens: int = 0
    usd: float = 0.0


@runtime_checkable
class Paying(Protocol):
    """A proposer whose proposals cost something; one without this method is free."""

    def reservation(self, request: Request) -> Reservation:
        """The most that what is asked for can take."""
