"""The registered problem `transaction_scheduling`."""

from pathlib import Path

from evaluators.cases.language import LANGUAGE
from evaluators.cases.problem import STAGES, mean_figure
from evaluators.problem import Descriptor, Inputs, Problem


def inputs(recording: Path | None) -> Inputs:
    """The generated workloads; there is no recording to choose."""
    from evaluators.cases.splits import inputs_of
    from evaluators.transaction_scheduling.workloads import cases

    return inputs_of(cases, "generated batches of 40 transactions in the manner of five workloads")


PROBLEM = Problem(
    name="transaction_scheduling",
    summary="in which order transactions run, so that their conflicts cost little time",
    score_unit="mean of best known makespan / makespan; above 1 is a new best",
    descriptors=(
        Descriptor("reordering", 0.0, 0.5, 8, "mean distance from the order of arrival, over the number"),
        Descriptor(
            "overtaking", 0.0, 0.5, 8, "share of transactions that start before the one ahead in the order"
        ),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("start",),
    bounds=("best_known",),
    actor="evaluators.transaction_scheduling.actor:open_actor",
    judge="evaluators.transaction_scheduling.judge:open_judge",
    inputs=inputs,
    score_of=mean_figure,
    standalone="",
    headline={"makespan": "makespan", "of lower bound": "bound_over_makespan", "worst case": "worst_case"},
)
