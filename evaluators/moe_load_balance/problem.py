"""The registered problem `moe_load_balance`."""

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
    from evaluators.moe_load_balance.workloads import WINDOWS, cases

    splits = {}
    for stage in STAGES:
        digest = hashlib.sha256()
        for case in cases(stage):
            told = case.told()
            for array in (*(told[name] for name in sorted(told)), case.following):
                digest.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
        splits[stage] = f"{stage}-{digest.hexdigest()[:16]}"
    return Inputs({}, splits, f"generated loads of 64 to 256 experts that drift, {WINDOWS} windows told")


def score_of(samples: "NDArray[np.float64]") -> float:
    """The mean over the cases; imported late because it needs numpy."""
    from evaluators.cases.judge import mean_figure

    return mean_figure(samples)


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
    score_of=score_of,
    standalone="",
    headline={"worst layer": "worst_layer", "newest": "balance_on_newest_window"},
)
