"""The registered problem `llm_sql`."""

from pathlib import Path

from evaluators.cases.language import LANGUAGE
from evaluators.cases.problem import STAGES, mean_figure
from evaluators.problem import Descriptor, Inputs, Problem


def inputs(recording: Path | None) -> Inputs:
    """The generated workloads; there is no recording to choose."""
    from evaluators.cases.splits import inputs_of
    from evaluators.llm_sql.workloads import cases

    return inputs_of(cases, "generated: tables of 240 rows and 6 to 10 columns")


PROBLEM = Problem(
    name="llm_sql",
    summary="how rows and cells of a table are ordered as prompts, so that a prefix cache serves the most",
    score_unit="tokens served from the prefix cache / all tokens",
    descriptors=(
        Descriptor("own_orders", 0.0, 1.0, 8, "rows whose cells have another order than most, of all rows"),
        Descriptor("first_cell", 0.0, 0.5, 8, "tokens of the first cell of a prompt, of all its tokens"),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("start",),
    bounds=("spanning_tree",),
    actor="evaluators.llm_sql.actor:open_actor",
    judge="evaluators.llm_sql.judge:open_judge",
    inputs=inputs,
    score_of=mean_figure,
    standalone="",
    headline={"of bound": "of_bound", "unbounded": "with_unbounded_cache", "worst case": "worst_case"},
)
