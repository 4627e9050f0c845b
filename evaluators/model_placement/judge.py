"""The half of `model_placement` that holds the cases, outside the sandbox."""

from evaluators.cases.judge import CaseJudge, Study
from evaluators.model_placement.problem import PROBLEM
from evaluators.model_placement.workloads import cases


def open_judge() -> CaseJudge:
    """Measures placements against the certified optimum of each case."""
    return CaseJudge(Study(PROBLEM, cases, "Optimal pressure / pressure", lambda _: 1.0))
