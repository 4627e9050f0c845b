"""What a problem of this kind provides: cases, and the exact measurement of what a candidate answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Measured:
    """What an answer is worth: a figure, whose mean over the cases is the score, and what describes it."""

    figure: float
    metrics: dict[str, float] = field(default_factory=dict)
    descriptors: dict[str, float] = field(default_factory=dict)


class Play(Protocol):
    """One case while a candidate answers it. What comes from the candidate is checked, never trusted."""

    def told(self) -> "Arrays":
        """The arguments of the candidate's function by name; those without a dimension become numbers."""

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        """The answer to what a candidate asks in between; a problem that has none raises `out_of_turn()`."""

    def measured(self, answer: "Arrays") -> Measured:
        """What its final answer is worth; raises CandidateError for one that breaks the rules."""


class Case(Protocol):
    """One case of a workload."""

    def play(self) -> Play:
        """The case at its beginning."""


def whole_numbers(
    answer: "Arrays", name: str, shape: tuple[int, ...], low: int, high: int
) -> "NDArray[np.int64]":
    """The array `name` of an answer: whole numbers of `shape`, all from `low` to `high`.

    Raises CandidateError for anything else.
    """
    import numpy as np

    found = answer.get(name)
    if found is None or found.shape != shape or found.dtype.kind not in "iu":
        got = "nothing" if found is None else f"{found.dtype.name} {list(found.shape)}"
        raise CandidateError(
            FailureKind.INVALID_OUTPUT, f"{name} has to be whole numbers {list(shape)}; it was {got}."
        )
    if found.size and (found.min() < low or found.max() > high):
        raise CandidateError(
            FailureKind.INVALID_OUTPUT,
            f"{name} has to lie in {low} .. {high}; it had values from {found.min()} to {found.max()}.",
        )
    return found.astype(np.int64)


def permutation(answer: "Arrays", name: str, length: int) -> "NDArray[np.int64]":
    """The array `name` of an answer, which holds each of 0 .. length - 1 once. Raises CandidateError."""
    import numpy as np

    order = whole_numbers(answer, name, (length,), 0, length - 1)
    if len(np.unique(order)) != length:
        raise CandidateError(
            FailureKind.INVALID_OUTPUT, f"{name} has to hold each of 0 .. {length - 1} exactly once."
        )
    return order


def out_of_turn() -> CandidateError:
    """The error for a question that nobody may ask now."""
    return CandidateError(FailureKind.INVALID_OUTPUT, "The judge was asked out of turn.")
