"""The half inside the sandbox: at each step a candidate decides for one trace after the other."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.actor import FunctionActor, as_array
from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    from collections.abc import Callable

    Arrays = Mapping[str, np.ndarray]
    Ask = Callable[[str, Arrays], Arrays]

MEMORY = 8
CONSTANTS = ("work", "step", "restart", "migration", "on_demand")
EACH = ("remaining", "place", "home", "available", "price")  # what differs from trace to trace


class SpotActor(FunctionActor):
    """Calls `decide` at every step; what it remembers stays here, no judge looks at it."""

    def answered(self, function: Any, case: "Arrays", ask: "Ask") -> "Arrays":
        """All choices of one case, [steps, traces]."""
        constants = {name: case[name].item() for name in CONSTANTS}
        now, choices = case, []
        memories = [[0.0] * MEMORY for _ in case["remaining"]]
        while now:
            times = {name: now[name].item() for name in ("elapsed", "left")}
            states = zip(*(now[name].tolist() for name in EACH), strict=True)
            choice: list[Any] = []
            for trace, state in enumerate(states):
                known = dict(zip(EACH, state, strict=True))
                if not known["remaining"]:  # done: no answer is asked for
                    choice.append(-1)
                    continue
                returned = function(memory=memories[trace], **constants, **times, **known)
                chosen, memories[trace] = _parts(returned)
                choice.append(chosen)
            choices.append(as_array("choice", choice))
            now = ask("step", {"choice": choices[-1]})
        return {"choices": np.stack(choices).astype(np.int64)}


def open_actor() -> SpotActor:
    """Calls `decide` on one market after the other."""
    return SpotActor("decide", ("choice", "memory"))


def _parts(returned: Any) -> tuple[Any, list[float]]:
    """Choice and memory, as `decide` has to return them. Raises CandidateError."""
    try:
        choice, memory = returned
        numbers = [float(value) for value in memory]
    except (TypeError, ValueError, OverflowError) as error:
        raise CandidateError(
            FailureKind.INTERFACE, f"decide has to return (choice, memory), memory {MEMORY} numbers."
        ) from error
    if len(numbers) != MEMORY:
        raise CandidateError(
            FailureKind.INTERFACE, f"decide has to return {MEMORY} numbers of memory; it were {len(numbers)}."
        )
    return choice, numbers
