"""What policies have learnt before they are used: tensors made for one model, whose cost is that of an index.

An artefact is a safetensors file with tensors `<layer>.<part>`, one set for each layer of the model. Those of
the default model ship beside the seeds; those of other models are in the cache, once
`python -m evaluators.token_selection.calibrate` has made them. A policy is shown the parts of its layer.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.models import GGUF_SHA256
from evaluators.problem import ROOT
from evaluators.recording import Recording
from kvolve import cache_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHIPPED = ROOT / "seeds" / "token_selection" / "artefacts"
WEIGHTS = "weights_sha256"  # in the metadata of a file: those of its model


def folder_of(weights_sha256: str) -> Path:
    """Where the artefacts of a model belong."""
    if weights_sha256 == GGUF_SHA256:
        return SHIPPED
    return cache_folder() / "artefacts" / weights_sha256[:16]


def artefacts_of(weights_sha256: str) -> tuple[Path, ...]:
    """The files with what was learnt for a model."""
    return tuple(sorted(folder_of(weights_sha256).glob("*.safetensors")))


def learnt(weights_sha256: str, layer: int) -> "dict[str, NDArray[Any]]":
    """What was learnt for one layer of a model, by name of the part.

    Raises CandidateError for a model for which nothing was.
    """
    found = {
        part: tensor
        for path in artefacts_of(weights_sha256)
        for part, tensor in _read(path).get(layer, {}).items()
    }
    if not found:
        raise CandidateError(
            FailureKind.INTERFACE,
            "Nothing has been learnt for this model that `calibrate` could be given. "
            "`python -m evaluators.token_selection.calibrate NAME --model MODEL --text FILE` does so.",
        )
    return found


def files_beside(source: str, recording: str) -> tuple[Path, ...]:
    """The files that a policy needs beside it, for the model of a recording as settings name it.

    Raises KvolveError for a recording that is gone.
    """
    if "def calibrate(" not in source:
        return ()
    if recording in ("full", "small"):
        return artefacts_of(GGUF_SHA256)
    return artefacts_of(Recording.open(Path(recording), splits=()).manifest.weights_sha256)


@lru_cache
def _read(path: Path) -> "dict[int, dict[str, NDArray[Any]]]":
    from safetensors.numpy import load_file

    layers: dict[int, dict[str, NDArray[Any]]] = {}
    for key, tensor in load_file(path).items():
        number, part = key.split(".")
        layers.setdefault(int(number), {})[part] = tensor
    return layers
