"""The half of `llm_sql` that holds the tables, outside the sandbox."""

from collections.abc import Callable, Mapping

from evaluators.cases.case import Case
from evaluators.cases.judge import CaseJudge, Study
from evaluators.llm_sql.cases import Table
from evaluators.llm_sql.problem import PROBLEM
from evaluators.llm_sql.workloads import cases


def open_judge() -> CaseJudge:
    """Serves the prompts of each table from a prefix cache, and counts what it holds of them."""
    return CaseJudge(Study(cases, "Tokens served from the prefix cache / all tokens", bounds))


def bounds() -> Mapping[str, Callable[[Case], float]]:
    """The figures of the bound, by the source of the seed that stands for it."""
    return {seed.source: spanning for seed in PROBLEM.seeds() if seed.role == "bound"}


def spanning(case: Case) -> float:
    """What no layout of the table can pass, see `reference.bound`."""
    assert isinstance(case, Table)
    return case.bound
