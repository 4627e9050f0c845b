"""The half that holds the loads, outside the sandbox."""

from evaluators.cases.judge import CaseJudge, Study
from evaluators.moe_load_balance.problem import PROBLEM
from evaluators.moe_load_balance.workloads import cases


def open_judge() -> CaseJudge:
    """Measures placements on the window that follows what a candidate was told."""
    return CaseJudge(
        Study(PROBLEM, cases, "Mean over largest load of a GPU in the next window", lambda case: case.bound)
    )
