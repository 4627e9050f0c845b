"""The registered problem `verified_selection`."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.problem import Descriptor, Inputs, Problem
from evaluators.token_selection import problem as token_selection
from evaluators.verified_selection.language import LANGUAGE
from evaluators.verified_selection.workloads import GOALS, STAGES, goals_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def inputs(recording: Path | None) -> Inputs:
    """The workloads over `recording`, as those of `token_selection`, with the default goals."""
    return with_goals(token_selection.inputs(recording), GOALS)


def with_goals(inputs: Inputs, goals: Sequence[str]) -> Inputs:
    """The same workloads with other goals. Raises KvolveError for what is no goal."""
    goals_of(goals)
    text = "\n".join(goals)
    asked = sha256(f"{text} {STAGES}".encode()).hexdigest()[:8]
    return replace(
        inputs,
        splits={s: f"{name.partition('+')[0]}+{asked}" for s, name in inputs.splits.items()},
        options={"goals": text},
    )


def score_of(samples: "NDArray[np.float64]") -> float:
    """See `scoring.score_of`; imported late because it needs numpy."""
    from evaluators.verified_selection import scoring

    return scoring.score_of(samples)


PROBLEM = Problem(
    name="verified_selection",
    summary="which cached tokens a decode step reads, and how many, for a guaranteed error",
    score_unit="mean of -log10(traffic) over the goals that are kept for certain",
    descriptors=(
        Descriptor("index_share", 0.0, 0.4, 6, "share of the traffic that is read to decide"),
        Descriptor(
            "sampled_mass", 0.0, 0.6, 6, "share of the attention weight that comes from sampled tokens"
        ),
        Descriptor("locality", 0.0, 1.0, 6, "overlap of what consecutive steps read"),
    ),
    language=LANGUAGE,
    stages=tuple(STAGES),
    floors=("dense", "uniform"),
    bounds=("oracle_ratio", "oracle_top_k"),
    actor="evaluators.verified_selection.actor:open_actor",
    judge="evaluators.verified_selection.judge:open_judge",
    inputs=inputs,
    with_goals=with_goals,
    score_of=score_of,
    standalone="evaluators.verified_selection.standalone",
    headline={
        "certified": "certified_goals",
        "bound / delta": "bound_to_delta",
        "traffic": "traffic",
        "index": "index_traffic",
        "sampled": "sampled_tokens",
    },
    recorded=True,
    beside="evaluators.token_selection.artefacts:files_beside",
)
