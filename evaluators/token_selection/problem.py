"""The registered problem `token_selection`."""

from pathlib import Path

from evaluators.problem import Descriptor, Inputs, Problem
from evaluators.token_selection.language import LANGUAGE
from evaluators.token_selection.workloads import GROUPS, STAGES, recording_of
from evaluators.recording import Recording, SMALL_RECORDING


def inputs(recording: Path | None) -> Inputs:
    """The workloads over `recording`, a folder made by `kvolve record`; None means the small committed one."""
    chosen = recording or SMALL_RECORDING
    paths = {stage: recording_of(stage, chosen) for stage in STAGES}
    opened = {path: Recording.open(path, verify=True) for path in set(paths.values())}
    manifest = opened[chosen].manifest
    return Inputs(
        arguments={stage: str(path) for stage, path in paths.items()},
        readable=tuple(sorted({str(path) for path in paths.values()})),
        splits={stage: f"{stage}-{opened[path].hash[:16]}" for stage, path in paths.items()},
        summary=f"{manifest.model}, layers {', '.join(map(str, manifest.layers))}, {len(manifest.contexts)} contexts "
        f"of {manifest.contexts[0].prefill:,} tokens",
    )


def score_of(samples: object) -> float:
    """See `judge.score_of`; imported late because it needs numpy."""
    from evaluators.token_selection import judge

    return judge.score_of(samples)


PROBLEM = Problem(
    name="token_selection",
    summary="which cached tokens a decode step of attention reads, and with which sampling probability",
    score_unit="mean over 2.5, 5, 10 and 20% traffic of -log10(error); higher is better",
    descriptors=(
        Descriptor("index_share", 0.0, 0.8, 6, "share of the traffic that is read to decide"),
        Descriptor("sampled_mass", 0.0, 0.6, 6, "share of the attention weight that comes from sampled tokens"),
        Descriptor("locality", 0.0, 1.0, 6, "overlap of what consecutive steps read"),
    ),
    language=LANGUAGE,
    groups=GROUPS,
    floors=("uniform_random", "recent_window"),
    bounds=("oracle_top_k", "oracle_top_p", "oracle_vattention"),
    actor="evaluators.token_selection.actor:open_actor",
    judge="evaluators.token_selection.judge:open_judge",
    inputs=inputs,
    score_of=score_of,
    headline=("error@2.5%", "error@5.0%", "error@10.0%", "error@20.0%", "worst_layer_error"),
)
