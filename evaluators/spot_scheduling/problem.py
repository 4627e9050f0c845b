"""The registered problem `spot_scheduling`."""

from pathlib import Path

from evaluators.cases.language import LANGUAGE
from evaluators.cases.problem import STAGES, mean_figure
from evaluators.problem import Descriptor, Inputs, Problem


def inputs(recording: Path | None) -> Inputs:
    """The generated workloads; there is no recording to choose."""
    from evaluators.cases.splits import inputs_of
    from evaluators.spot_scheduling.workloads import cases

    summary = "generated spot markets of one to four regions, jobs of 20 to 40 hours"
    return inputs_of(cases, summary, untold=lambda market: market.future)


PROBLEM = Problem(
    name="spot_scheduling",
    summary="on which spot or on-demand instance a job runs, so that it is cheap and never late",
    score_unit="optimal cost / cost",
    descriptors=(
        Descriptor("on_demand", 0.0, 1.0, 8, "share of the paid hours that are on demand"),
        Descriptor("waiting", 0.0, 0.5, 8, "share of the time until the job is done that it waits"),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("start",),
    bounds=("offline_optimum",),
    actor="evaluators.spot_scheduling.actor:open_actor",
    judge="evaluators.spot_scheduling.judge:open_judge",
    inputs=inputs,
    score_of=mean_figure,
    standalone="",
    headline={"dollars": "dollars", "forced": "replaced", "starts/day": "starts_per_day"},
)
