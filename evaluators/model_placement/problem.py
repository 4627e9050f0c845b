"""The registered problem `model_placement`."""

from pathlib import Path

from evaluators.cases.language import LANGUAGE
from evaluators.cases.problem import STAGES, mean_figure
from evaluators.problem import Descriptor, Inputs, Problem


def inputs(recording: Path | None) -> Inputs:
    """The generated workloads; there is no recording to choose."""
    from evaluators.cases.splits import inputs_of
    from evaluators.model_placement.workloads import cases

    return inputs_of(cases, "generated: 14 models on 5 GPUs of 80 GB")


PROBLEM = Problem(
    name="model_placement",
    summary="which GPU each of many served models is placed on, for the smallest KV-cache pressure",
    score_unit="mean of optimal pressure / pressure; 1 is the certified optimum of every case",
    descriptors=(
        Descriptor(
            "memory_spread", 0.0, 0.4, 8, "standard deviation of the memory that models take on a GPU"
        ),
        Descriptor("load_spread", 0.0, 1.0, 8, "standard deviation of the loads of the GPUs over their mean"),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("start",),
    bounds=("optimum",),
    actor="evaluators.model_placement.actor:open_actor",
    judge="evaluators.model_placement.judge:open_judge",
    inputs=inputs,
    score_of=mean_figure,
    standalone="",
    headline={"pressure": "pressure", "certified": "certified", "worst case": "worst_case"},
)
