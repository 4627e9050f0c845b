"""The registered problem `moe_load_balance`."""

from pathlib import Path

from evaluators.cases.language import LANGUAGE
from evaluators.cases.problem import STAGES, mean_figure
from evaluators.problem import Descriptor, Inputs, Problem


def inputs(recording: Path | None) -> Inputs:
    """The generated workloads; there is no recording to choose."""
    from evaluators.cases.splits import inputs_of
    from evaluators.moe_load_balance.workloads import WINDOWS, cases

    summary = f"generated loads of 64 to 256 experts that drift, {WINDOWS} windows told"
    return inputs_of(cases, summary, untold=lambda case: {"following": case.following})


PROBLEM = Problem(
    name="moe_load_balance",
    summary="which experts a GPU holds, and which of them twice, so that all GPUs have the same load",
    score_unit="mean over largest load of a GPU",
    descriptors=(
        Descriptor("spread", 0.0, 1.0, 8, "experts that have replicas, per spare slot"),
        Descriptor(
            "recency", -0.3, 0.1, 8, "balance on the newest window, less that on the average of the windows"
        ),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("start",),
    bounds=("fractional",),
    actor="evaluators.moe_load_balance.actor:open_actor",
    judge="evaluators.moe_load_balance.judge:open_judge",
    inputs=inputs,
    score_of=mean_figure,
    standalone="",
    headline={"worst layer": "worst_layer", "newest": "balance_on_newest_window"},
)
