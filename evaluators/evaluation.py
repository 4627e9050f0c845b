"""What evaluating a candidate gives: a score with everything measured, or a labelled failure."""

from dataclasses import dataclass, field
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a candidate has no score."""

    SCREEN = "screen"
    SYNTAX = "syntax"
    INTERFACE = "interface"
    CRASH = "crash"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    INVALID_OUTPUT = "invalid_output"
    OVER_BUDGET = "over_budget"
    NONDETERMINISTIC = "nondeterministic"
    SANDBOX = "sandbox"


class CandidateError(Exception):
    """The candidate broke the rules; the message is written for whoever proposes the next one.

    The sandbox reads `failure_kind` off any exception that has it, so it needs to know nothing of this class.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.failure_kind = kind.value


@dataclass(frozen=True)
class Verdict:
    """What a judge found: figures only, plain enough to cross a process boundary.

    `noisy` says that measuring again would give another score: random numbers or a clock decide it, too.
    `samples` has one entry per context (or trace), from which `Problem.score_of` recomputes the score on any
    resample: paired bootstrap needs nothing else.
    """

    behaviour: str
    score: float
    metrics: dict[str, float]
    descriptors: dict[str, float]
    feedback: str
    samples: list[list[list[float]]] = field(default_factory=list)
    noisy: bool = False
