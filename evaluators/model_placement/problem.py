"""The registered problem `model_placement`."""

from evaluators.cases.judge import STAGES, mean_figure
from evaluators.cases.language import LANGUAGE
from evaluators.cases.splits import inputs_of
from evaluators.model_placement.workloads import cases
from evaluators.problem import Descriptor, Problem

PROBLEM = Problem(
    name="model_placement",
    summary="which GPU each of many served models is placed on, for the smallest KV-cache pressure",
    score_unit="mean of optimal pressure / pressure; 1 is the certified optimum of every case",
    descriptors=(
        Descriptor(
            "memory_spread", 0.0, 0.3, 8, "standard deviation of the memory that models take on a GPU"
        ),
        Descriptor("load_spread", 0.0, 1.0, 8, "standard deviation of the loads of the GPUs over their mean"),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("start",),
    bounds=("optimum",),
    actor="evaluators.model_placement.actor:open_actor",
    judge="evaluators.model_placement.judge:open_judge",
    inputs=lambda _: inputs_of(cases, "14 models on 5 GPUs of 80 GB"),
    score_of=mean_figure,
    standalone="",
    headline={"pressure": "pressure", "certified": "certified", "worst": "worst_case"},
)
