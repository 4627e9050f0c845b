"""The half inside the sandbox: a candidate's function is called on the cases that the judge gives it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.language import LANGUAGE
from evaluators.evaluation import CandidateError, FailureKind
from evaluators.program import load

if TYPE_CHECKING:
    from collections.abc import Callable

    Arrays = Mapping[str, np.ndarray]
    Ask = Callable[[str, Arrays], Arrays]


class FunctionActor:
    """Calls one function of a candidate. It has no data: every case comes from the judge."""

    def __init__(self, function: str, answers: tuple[str, ...]) -> None:
        """`function` is the name of the candidate's function, `answers` those of the arrays it returns."""
        self.function = function
        self.answers = answers

    def act(self, source: str, ask: "Ask") -> "Arrays":
        """Answers case after case, until there are none left."""
        function = load(source, LANGUAGE).get(self.function)
        if not callable(function):
            raise CandidateError(
                FailureKind.INTERFACE, f"The program has to define a function `{self.function}`."
            )
        case = ask("begin", {})
        while case:
            case = ask("done", self.answered(function, case, ask))
        return {}

    def answered(self, function: Any, case: "Arrays", ask: "Ask") -> "Arrays":
        """What the function returns for one case, as arrays."""
        arguments = {name: value.copy() if value.ndim else value.item() for name, value in case.items()}
        returned = function(**arguments)
        values = returned if len(self.answers) > 1 else (returned,)
        if not isinstance(values, tuple) or len(values) != len(self.answers):
            raise CandidateError(
                FailureKind.INTERFACE, f"{self.function} has to return ({', '.join(self.answers)})."
            )
        return {name: as_array(name, value) for name, value in zip(self.answers, values, strict=True)}


def as_array(name: str, value: Any) -> np.ndarray:
    """A list or an array that a candidate returned, as an array of numbers. Raises CandidateError."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise CandidateError(FailureKind.INTERFACE, f"{name} is no rectangular array of numbers.") from error
    if array.dtype.kind not in "biuf":
        raise CandidateError(
            FailureKind.INTERFACE, f"{name} has to be an array of numbers; it was {type(value).__name__}."
        )
    return np.ascontiguousarray(array)
