"""The registered problem `prefill_selection`."""

from pathlib import Path

from evaluators.prefill_selection.language import LANGUAGE
from evaluators.prefill_selection.workloads import STAGES, check_length
from evaluators.problem import Descriptor, Inputs, Problem
from evaluators.token_selection import problem as token_selection


def inputs(recording: Path | None) -> Inputs:
    """The workloads over `recording`, as of token selection. Raises KvolveError for one of short prompts."""
    found = token_selection.inputs(recording)
    for path in found.arguments.values():
        check_length(Path(path))
    return found


PROBLEM = Problem(
    name="prefill_selection",
    summary="which columns of a prompt's attention are computed, block of queries by block of queries",
    score_unit="mean of -log10(error + 1%) over layers, at 20, 30 and 50% of what dense attention computes",
    descriptors=(
        Descriptor("deciding_share", 0.0, 0.3, 6, "share of what is computed that serves to decide"),
        Descriptor("run_length", 0.0, 8.0, 8, "binary logarithm of the columns computed in a row"),
        Descriptor("head_spread", 0.0, 1.5, 5, "how the columns of the heads differ, relative to their mean"),
    ),
    language=LANGUAGE,
    stages=tuple(STAGES),
    floors=("uniform_random", "recent_window"),
    bounds=("oracle_blocks", "oracle_columns"),
    actor="evaluators.prefill_selection.actor:open_actor",
    judge="evaluators.prefill_selection.judge:open_judge",
    inputs=inputs,
    score_of=token_selection.score_of,
    standalone="evaluators.prefill_selection.standalone",
    headline={
        "20%": "error@20.0%",
        "30%": "error@30.0%",
        "50%": "error@50.0%",
        "worst": "worst_layer_error",
    },
    recorded=True,
)
