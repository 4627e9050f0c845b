"""The half of `transaction_scheduling` inside the sandbox."""

from evaluators.cases.actor import FunctionActor


def open_actor() -> FunctionActor:
    """Calls `schedule` on each batch."""
    return FunctionActor("schedule", ("order",))
