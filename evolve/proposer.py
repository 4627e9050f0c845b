"""What the loop asks of a proposer, and what it gets: the same for the built-in one, an LLM or a person."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from database.records import Failure

if TYPE_CHECKING:
    from numpy.random import Generator


@dataclass(frozen=True)
class Parent:
    """A candidate that a proposal starts from. Its figures come from the probe and search stages only."""

    hash: str
    source: str
    score: float
    feedback: str


@dataclass(frozen=True)
class Request:
    """One attempt asked for: change `parents[0]`; the others are there to take from.

    `failures` are recent changes of `parents[0]` that failed, the newest first, for proposers that read them.
    """

    number: int
    parents: tuple[Parent, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A proposer's answer. `parents` are the hashes of those candidates that the source really comes from.

    `tokens`, in and out, and `cost_usd` are what the model calls made for it took just now. The proposer has
    stored these calls itself, each as soon as its reply was there.
    """

    operator: str
    parents: tuple[str, ...]
    source: str
    detail: str = ""
    tokens: int = 0
    cost_usd: float = 0.0


class Proposer(Protocol):
    """Makes new candidates out of old ones."""

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """A draft for `request`; every random choice comes from `random`, so that a run can be repeated.

        Raises KvolveError when it cannot go on: the run then ends, and can be resumed.
        """

    async def close(self) -> None:
        """Gives back what it holds; called at the end of a run."""
