"""The half of `model_placement` that holds the cases, outside the sandbox."""

from collections.abc import Callable, Mapping

from evaluators.cases.case import Case
from evaluators.cases.judge import CaseJudge, Study
from evaluators.model_placement.problem import PROBLEM
from evaluators.model_placement.workloads import cases


def open_judge() -> CaseJudge:
    """Measures placements against the certified optimum of each case."""
    return CaseJudge(Study(cases, "Optimal pressure / pressure", bounds))


def bounds() -> Mapping[str, Callable[[Case], float]]:
    """The certified optimum has the figure 1 in every case."""
    return {seed.source: lambda _: 1.0 for seed in PROBLEM.seeds() if seed.role == "bound"}
