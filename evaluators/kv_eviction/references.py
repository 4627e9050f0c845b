"""What random eviction costs in each context: where the scale of scores begins. Measured once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.corpus import SPLITS
from evaluators.kv_eviction.measuring import RANDOM_DRAWS, Reference, measure, random_eviction, reference
from evaluators.kv_eviction.prefilled import Folder, prefilled
from evaluators.kv_eviction.workloads import BUDGETS, Cached, opened
from kvolve import KvolveError

if TYPE_CHECKING:
    Random = dict[str, tuple[float, float]]  # "file budget" -> KL, excess of answers

RANDOM = "random.json"


def key(cached: Cached, budget: float) -> str:
    """What the figures of a context at a budget are found by."""
    return f"{cached.context.entry.file} {budget:g}"


def measured_random(model: Any, cached: Cached, budget: float, exact: Reference) -> tuple[float, float]:
    """Mean KL and mean excess of answers after random eviction."""
    found = [
        measure(model, cached, random_eviction(cached, budget, draw), exact) for draw in range(RANDOM_DRAWS)
    ]
    return float(np.mean([one.kl for one in found])), float(np.mean([one.answers for one in found]))


def read_random(folder: Path) -> "Random":
    """The figures on disk. Raises KvolveError where they are gone."""
    try:
        found = json.loads((folder / RANDOM).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KvolveError(
            f"The contexts {folder} cannot be used: {RANDOM} is damaged. Delete the folder; the next run "
            "makes it again."
        ) from error
    return {name: (float(kl), float(nll)) for name, (kl, nll) in found.items()}


def write_random(folder: Folder, model: Any, progress: Callable[[int, int], None]) -> None:
    """Measures random eviction in all contexts of a folder."""
    contexts = [context for split in SPLITS for context in prefilled(folder, split)]
    found: Random = {}
    for number, context in enumerate(contexts):
        progress(number, len(contexts))
        cached = opened(context, folder.manifest.weights_sha256)
        exact = reference(model, cached)
        for budget in BUDGETS:
            found[key(cached, budget)] = measured_random(model, cached, budget, exact)
    progress(len(contexts), len(contexts))
    (folder.path / RANDOM).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
