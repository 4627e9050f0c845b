"""The half that holds the markets, outside the sandbox."""

from evaluators.cases.judge import CaseJudge, Study
from evaluators.spot_scheduling.problem import PROBLEM
from evaluators.spot_scheduling.workloads import cases


def open_judge() -> CaseJudge:
    """Plays the markets step by step, and compares what was paid with the optimum of each trace."""
    return CaseJudge(Study(PROBLEM, cases, "Optimal cost over cost", lambda _: 1.0))
