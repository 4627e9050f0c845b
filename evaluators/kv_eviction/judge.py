"""The half of `kv_eviction` that holds model and contexts, and measures what is left of a cache."""

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from evaluators.kv_eviction.examination import Examination
from evaluators.kv_eviction.measuring import Reference, future_attention, reference
from evaluators.kv_eviction.prefilled import Folder, Prefilled, prefilled
from evaluators.kv_eviction.references import key, measured_random, read_random
from evaluators.kv_eviction.workloads import STAGES, Cached, StagePlan, opened
from evaluators.models import load_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT = 4  # contexts in memory, as many as the search has: 150 MB each with the default model
EXACT = 8  # of which it is known what the full cache gives: 25 MB each

T = TypeVar("T")


@cache
def oracles() -> frozenset[str]:
    """The sources that know what comes behind a context: the shipped bounds, and no others."""
    from evaluators.kv_eviction.problem import PROBLEM

    return frozenset(seed.source for seed in PROBLEM.seeds() if seed.role == "bound")


def open_judge(**folders: str) -> "Judge":
    """The judge; `folders` gives the folder of contexts of each stage, which is one and the same."""
    torch.set_num_threads(1)  # so that figures do not depend on how many workers share a machine
    return Judge(Path(folders["search"]))


class Judge:
    """Leads candidates through stages."""

    def __init__(self, path: Path, plans: Mapping[str, StagePlan] = STAGES) -> None:
        self.folder = Folder.open(path)
        self.plans = plans
        self._opened: dict[str, Cached] = {}
        self._exact: dict[str, Reference] = {}
        self._futures: dict[str, list[NDArray[np.float16]]] = {}
        self._random = read_random(path)

    def examine(self, stage: str, source: str, sample: int = 0) -> Examination:
        """Begins the examination of a candidate in one stage; nothing of it is random."""
        plan = self.plans[stage]
        contexts = prefilled(self.folder, plan.split, plan.contexts)
        return Examination(self, plan, contexts, oracle=source in oracles())

    @cached_property
    def model(self) -> Any:
        """The model, loaded when something is first run in it."""
        return load_model(self.folder.manifest.model)[0]

    def cached(self, context: Prefilled) -> Cached:
        """A context in memory."""
        weights = self.folder.manifest.weights_sha256
        return _remembered(self._opened, context.entry.file, lambda: opened(context, weights))

    def exact(self, cached: Cached) -> Reference:
        """What the full cache gives."""
        file = cached.context.entry.file
        return _remembered(self._exact, file, lambda: reference(self.model, cached), EXACT)

    def future(self, cached: Cached) -> "list[NDArray[np.float16]]":
        """What is attended to behind a context, for bounds."""
        file = cached.context.entry.file
        return _remembered(self._futures, file, lambda: future_attention(self.model, cached))

    def random(self, cached: Cached, budget: float) -> tuple[float, float]:
        """What random eviction costs: KL, and excess of answers."""
        name = key(cached, budget)
        if name not in self._random:
            self._random[name] = measured_random(self.model, cached, budget, self.exact(cached))
        return self._random[name]


def _remembered(among: dict[str, T], name: str, make: Callable[[], T], most: int = KEPT) -> T:
    """What is found under a name, or made; the oldest of more than `most` is forgotten."""
    if name not in among:
        found = make()
        while len(among) >= most:
            del among[next(iter(among))]
        among[name] = found
    return among[name]
