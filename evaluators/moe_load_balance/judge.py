"""The half that holds the loads, outside the sandbox."""

from collections.abc import Callable, Mapping

from evaluators.cases.case import Case
from evaluators.cases.judge import CaseJudge, Study
from evaluators.moe_load_balance.problem import PROBLEM
from evaluators.moe_load_balance.workloads import Placing, cases


def open_judge() -> CaseJudge:
    """Measures placements on the window that follows what a candidate was told."""
    return CaseJudge(Study(cases, "Mean over largest load of a GPU in the next window", bounds))


def bounds() -> Mapping[str, Callable[[Case], float]]:
    """The figures of the bound, by the source of the seed that stands for it."""
    return {seed.source: fractional for seed in PROBLEM.seeds() if seed.role == "bound"}


def fractional(case: Case) -> float:
    """What no placement can pass, by one who knows the next window."""
    assert isinstance(case, Placing)
    return case.bound
