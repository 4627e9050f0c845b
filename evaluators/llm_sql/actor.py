"""The half of `llm_sql` inside the sandbox."""

from evaluators.cases.actor import FunctionActor


def open_actor() -> FunctionActor:
    """Calls `reorder` on each table."""
    return FunctionActor("reorder", ("rows", "columns"))
