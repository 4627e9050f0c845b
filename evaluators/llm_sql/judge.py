"""The half of `llm_sql` that holds the tables, outside the sandbox."""

from evaluators.cases.judge import CaseJudge, Study
from evaluators.llm_sql.problem import PROBLEM
from evaluators.llm_sql.workloads import cases


def open_judge() -> CaseJudge:
    """Serves the prompts of each table from a prefix cache, and counts what it holds of them."""
    return CaseJudge(
        Study(PROBLEM, cases, "Tokens served from the prefix cache / all tokens", lambda table: table.bound)
    )
