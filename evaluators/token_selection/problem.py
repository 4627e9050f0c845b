"""The registered problem `token_selection`."""

from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.problem import Descriptor, Inputs, Problem
from evaluators.recording import SMALL_RECORDING, Recording
from evaluators.token_selection.language import LANGUAGE
from evaluators.token_selection.workloads import STAGES, recording_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def inputs(recording: Path | None) -> Inputs:
    """The workloads over `recording`, a folder made by `kvolve record`; None means the small committed
    one.
    """
    chosen = recording or SMALL_RECORDING
    opened = {stage: Recording.open(recording_of(stage, chosen), verify=stage == "probe") for stage in STAGES}
    main = Recording.open(chosen, verify=True).manifest
    return Inputs(
        arguments={stage: str(source.path) for stage, source in opened.items()},
        splits={stage: f"{stage}-{source.hash[:16]}" for stage, source in opened.items()},
        summary=f"{main.model}, layers {', '.join(map(str, main.layers))} of {main.num_layers}, "
        f"{len(main.contexts)} contexts of {main.contexts[0].prefill:,} tokens",
    )


def score_of(samples: "NDArray[np.float64]") -> float:
    """See `scoring.score_of`; imported late because it needs numpy."""
    from evaluators.token_selection import scoring

    return scoring.score_of(samples)


PROBLEM = Problem(
    name="token_selection",
    summary="which cached tokens a decode step of attention reads, and with which sampling probability",
    score_unit="mean of -log10(error + 1%) over layers, at 2.5, 5, 10 and 20% traffic",
    descriptors=(
        Descriptor("index_share", 0.0, 0.8, 6, "share of the traffic that is read to decide"),
        Descriptor(
            "sampled_mass", 0.0, 0.6, 6, "share of the attention weight that comes from sampled tokens"
        ),
        Descriptor("locality", 0.0, 1.0, 6, "overlap of what consecutive steps read"),
    ),
    language=LANGUAGE,
    stages=tuple(STAGES),
    floors=("uniform_random", "recent_window"),
    bounds=("oracle_top_k", "oracle_top_p", "oracle_vattention"),
    actor="evaluators.token_selection.actor:open_actor",
    judge="evaluators.token_selection.judge:open_judge",
    inputs=inputs,
    score_of=score_of,
    standalone="evaluators.token_selection.standalone",
    headline={
        "2.5%": "error@2.5%",
        "5%": "error@5.0%",
        "10%": "error@10.0%",
        "20%": "error@20.0%",
        "worst": "worst_layer_error",
    },
    recorded=True,
    beside="evaluators.token_selection.artefacts:files_beside",
    effect="evaluators.token_selection.effect:open_judge",
)
