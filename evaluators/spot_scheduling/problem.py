"""The registered problem `spot_scheduling`."""

import hashlib
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
    from evaluators.spot_scheduling.workloads import cases

    splits = {}
    for stage in STAGES:
        digest = hashlib.sha256()
        for market in cases(stage):
            digest.update(f"{market.job} {market.available.shape} ".encode())
            digest.update(market.available.tobytes() + market.price.tobytes())
        splits[stage] = f"{stage}-{digest.hexdigest()[:16]}"
    return Inputs({}, splits, "generated spot markets of one to four regions, jobs of 30 to 60 hours")


def score_of(samples: "NDArray[np.float64]") -> float:
    """The mean over the cases; imported late because it needs numpy."""
    from evaluators.cases.judge import mean_figure

    return mean_figure(samples)


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
    score_of=score_of,
    standalone="",
    headline={"dollars": "dollars", "forced": "replaced", "starts/day": "starts_per_day"},
)
