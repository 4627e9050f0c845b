"""The half inside the sandbox."""

from evaluators.cases.actor import FunctionActor


def open_actor() -> FunctionActor:
    """Calls `place` on one case after the other."""
    return FunctionActor("place", ("phy2log",))
