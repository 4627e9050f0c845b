"""The half that holds the markets, outside the sandbox."""

from collections.abc import Callable, Mapping

from evaluators.cases.case import Case
from evaluators.cases.judge import CaseJudge, Study
from evaluators.spot_scheduling.problem import PROBLEM
from evaluators.spot_scheduling.workloads import cases


def open_judge() -> CaseJudge:
    """Plays the markets step by step, and compares what was paid with the optimum of each trace."""
    return CaseJudge(Study(cases, "Optimal cost over cost", bounds))


def bounds() -> Mapping[str, Callable[[Case], float]]:
    """The figures of the bound, by the source of the seed that stands for it: the optimum over itself."""
    return {seed.source: lambda case: 1.0 for seed in PROBLEM.seeds() if seed.role == "bound"}
