"""The registered problem `kv_eviction`."""

from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.kv_eviction.language import LANGUAGE
from evaluators.problem import Descriptor, Inputs, Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STAGES = ("probe", "search", "validation", "holdout")


def inputs(contexts: Path | None) -> Inputs:
    """The workloads over a folder of contexts, as `prefilled.ensure` makes it."""
    from evaluators.kv_eviction.prefilled import Folder

    assert contexts is not None
    folder = Folder.open(contexts)
    manifest = folder.manifest
    count, length = len(folder.entries("validation")), len(folder.entries("validation")[0].tokens)
    return Inputs(
        arguments=dict.fromkeys(STAGES, str(contexts)),
        splits={stage: f"{stage}-{folder.version(stage)[:16]}" for stage in STAGES},
        summary=f"{manifest.model}, {len(manifest.layers)} of {manifest.num_layers} layers compressed, "
        f"{count} contexts of {length:,} tokens in each split",
    )


def score_of(samples: "NDArray[np.float64]") -> float:
    """See `scoring.score_of`; imported late because it needs numpy."""
    from evaluators.kv_eviction import scoring

    return scoring.score_of(samples)


PROBLEM = Problem(
    name="kv_eviction",
    summary="which tokens stay in the KV cache of a language model, and how they are stored, at equal bytes",
    score_unit="mean of KL and answers at 25% and 12.5% of the bytes, 0 random eviction, 1 the full cache",
    descriptors=(
        Descriptor("spread", 0.0, 1.2, 6, "how the bytes of layers and heads differ, relative to their mean"),
        Descriptor("recency", 0.3, 0.95, 6, "mean place of the kept tokens, 1 for the newest"),
        Descriptor("overhead", 0.0, 0.6, 6, "share of the bytes spent on metadata or merged tokens"),
    ),
    language=LANGUAGE,
    stages=STAGES,
    floors=("uniform_random", "recent_window"),
    bounds=("oracle",),
    actor="evaluators.kv_eviction.actor:open_actor",
    judge="evaluators.kv_eviction.judge:open_judge",
    inputs=inputs,
    score_of=score_of,
    standalone="evaluators.kv_eviction.layer",
    headline={
        "KL 25%": "kl@25.0%",
        "KL 12.5%": "kl@12.5%",
        "1st answer": "first_answer@25.0%",
        "2nd answer": "second_answer@25.0%",
    },
    prepared="evaluators.kv_eviction.prefilled:ensure",
)
