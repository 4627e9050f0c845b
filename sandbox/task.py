"""What a sandbox is asked to do, and what it answers: the words shared by driver, worker and zygote."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    Ask = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

# Labels that an actor or a judge may give with `failure_kind`. "screen" and "sandbox" are not among them:
# those are said by the driver and by the worker, never on behalf of a candidate.
FAILURES = frozenset(
    {
        "syntax",
        "interface",
        "crash",
        "timeout",
        "memory",
        "invalid_output",
        "over_budget",
        "nondeterministic",
    }
)


class Profile(StrEnum):
    """What the processes of an actor may ask of the kernel."""

    CANDIDATE = "candidate"  # it computes: no files, no processes, no sockets
    EVALUATOR = "evaluator"  # a user's program: also files in a private /tmp, and processes of its own
    ONLINE_EVALUATOR = "online_evaluator"  # and the network


class Actor(Protocol):
    """The half of a problem that runs a candidate, inside the wall; it holds no data of its own."""

    def act(self, source: str, ask: Ask) -> Mapping[str, np.ndarray]:
        """Plays a candidate in a fresh process; returns what is left to say at its end, as plain arrays.

        `ask(question, arrays)` gives the judge's answer, read-only arrays. Whatever is sent is taken for the
        candidate's word: it could have written it itself.
        """


class Examination(Protocol):
    """One candidate's way through one stage, as the judge leads it: a number of fresh processes, in turn.

    Its methods may raise an exception with a `failure_kind`, which ends the stage with this failure.
    """

    def another_process(self) -> bool:
        """Whether one more process is to be played; called before each."""

    def answer(self, question: str, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The answer to what the process asks. Both come from a candidate: nothing of them is trusted."""

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Receives what the process said at its end."""

    def value(self) -> dict[str, object]:
        """What the stage came to: plain numbers, strings, lists and dictionaries."""


class Judge(Protocol):
    """The half of a problem that holds its data and scores decisions, outside the wall."""

    def examine(self, stage: str, source: str, sample: int) -> Examination:
        """Begins the examination of a candidate.

        `sample` 0 is its first measurement. Any other number asks for one more of the same stage, with the
        random numbers that belong to this number, or simply at another time.
        """


@dataclass(frozen=True)
class TaskRef:
    """Names a problem's two halves, so that a worker can load them in its own processes.

    `actor` and `judge` are "package.module:callable": the actor, called with `inside` within the wall, and
    the judge, called with `arguments` outside it.
    """

    actor: str
    judge: str
    arguments: dict[str, str]
    stages: tuple[str, ...]
    readable: tuple[str, ...] = ()  # absolute paths, mapped read-only into every zygote
    data: tuple[str, ...] = ()  # absolute paths among `arguments`, which travel to nodes that lack them
    inside: dict[str, str] = field(default_factory=dict)  # what the actor is called with
    profile: Profile = Profile.CANDIDATE
    # A second sandbox, which runs beside each process of a candidate. Of this reference actor, readable,
    # inside and profile count; the judge leads it as the argument `partner` (see `partner.py`).
    partner: TaskRef | None = None

    def check(self, stage: str) -> None:
        """Raises ValueError for a stage that this task does not have."""
        if stage not in self.stages:
            raise ValueError(f"no stage {stage!r}; this task has {', '.join(self.stages)}")

    def pack(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def unpack(cls, plain: Mapping[str, Any]) -> TaskRef:
        return cls(
            actor=plain["actor"],
            judge=plain["judge"],
            arguments=dict(plain["arguments"]),
            stages=tuple(plain["stages"]),
            readable=tuple(plain["readable"]),
            data=tuple(plain["data"]),
            inside=dict(plain["inside"]),
            profile=Profile(plain["profile"]),
            partner=None if plain["partner"] is None else cls.unpack(plain["partner"]),
        )


@dataclass(frozen=True)
class Limits:
    """What one child (one process of one stage) may use."""

    wall_s: float = 20.0
    cpu_s: int = 10
    memory_bytes: int = 4 << 30  # address space beyond what the zygote maps already
    output_bytes: int = 256 << 20  # one message, as encoded
    file_bytes: int = 64 << 20  # the private /tmp
    open_files: int = 64
    grace_s: float = 5.0  # what a zygote may take beyond `wall_s` before it counts as lost


@dataclass(frozen=True)
class Outcome:
    """What a stage came to: either a value, or a failure (design.md 1) with a message for the proposer."""

    value: dict[str, Any] | None
    failure: str | None
    message: str
    wall_s: float
    cpu_s: float


def load(reference: str) -> Any:
    """The object that "package.module:name" names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
