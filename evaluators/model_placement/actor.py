"""The half of `model_placement` inside the sandbox."""

from evaluators.cases.actor import FunctionActor


def open_actor() -> FunctionActor:
    """Calls `place` on each case."""
    return FunctionActor("place", ("placement",))
