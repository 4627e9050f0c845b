"""The registered problem `llm_sql`."""

from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.cases.language import LANGUAGE
from evaluators.problem import Descriptor, Inputs, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGES = ("probe", "second_probe", "search", "validation", "holdout")


def inputs(recording: Path | None) -> Inputs:
    """The generated workloads; there is no recording to choose."""
    from evaluators.cases.splits import inputs_of
    from evaluators.llm_sql.workloads import cases

    return inputs_of(cases, STAGES, "generated: tables of 240 rows and 6 to 10 columns")


def score_of(samples: "NDArray[np.float64]") -> float:
    """The mean over the cases; imported late because it needs numpy."""
    from evaluators.cases.judge import mean_figure

    return mean_figure(samples)


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
    score_of=score_of,
    standalone="",
    headline={"of bound": "of_bound", "unbounded": "with_unbounded_cache", "worst case": "worst_case"},
)
