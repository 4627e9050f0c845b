"""Generated cases: models with a size in memory and a load, and a number of GPUs to place them on."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Measured, out_of_turn, whole_numbers
from evaluators.evaluation import CandidateError, FailureKind
from evaluators.model_placement.reference import optimum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

MEMORY_GB = 80.0
SIZES_GB = (2.0, 4.0, 6.0, 14.0, 16.0, 26.0, 28.0, 40.0)  # weights of 1B to 20B parameters, fp16 and fp8
SIZE_SHARES = (0.15, 0.15, 0.1, 0.2, 0.2, 0.1, 0.06, 0.04)
FULL = 0.6  # of all memory that the models may take in all
# stage -> seed of its random numbers, cases, GPUs and models of each
STAGES = {
    "probe": (1, 2, 3, 10),
    "second_probe": (2, 2, 3, 10),
    "search": (3, 16, 5, 14),
    "validation": (4, 16, 5, 14),
    "holdout": (5, 24, 5, 14),
}


@dataclass(frozen=True, eq=False)
class Case:
    """Models to be placed. It is its own play: an answer changes nothing of it."""

    load: "NDArray[np.float64]"  # [M] GB of KV cache a second, over the latency that requests allow
    size_gb: "NDArray[np.float64]"  # [M]
    gpus: int

    def play(self) -> "Case":
        return self

    def told(self) -> "Arrays":
        return {
            "load": self.load,
            "size_gb": self.size_gb,
            "gpus": np.array(self.gpus),
            "memory_gb": np.array(MEMORY_GB),
        }

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        raise out_of_turn()

    def measured(self, answer: "Arrays") -> Measured:
        placement = whole_numbers(answer, "placement", self.load.shape, 0, self.gpus - 1)
        # Multiples of 1/64: these sums are exact.
        loads = np.bincount(placement, self.load, self.gpus)
        sizes = np.bincount(placement, self.size_gb, self.gpus)
        free = MEMORY_GB - sizes
        if free.min() <= 0:
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                f"GPU {int(free.argmin())} was given models of {sizes.max():g} GB; its memory is "
                f"{MEMORY_GB:g} GB, and some of it has to be left.",
            )
        pressure = float((loads / free).max())
        return Measured(
            figure=self.best / pressure,
            metrics={
                "pressure": pressure,
                "optimum": self.best,
                "certified": float(pressure == self.best),
            },
            descriptors={
                "memory_spread": float(sizes.std() / MEMORY_GB),
                "load_spread": float(loads.std() / loads.mean()),
            },
        )

    @cached_property
    def best(self) -> float:
        """The smallest pressure that any placement has, by `reference.optimum`, as the nearest float."""
        return float(optimum(self.load.tolist(), self.size_gb.tolist(), self.gpus, MEMORY_GB).pressure)


def cases(stage: str) -> tuple[Case, ...]:
    """The cases of a stage, the same on every machine."""
    seed, count, gpus, models = STAGES[stage]
    random = np.random.Generator(np.random.Philox(key=seed))
    return tuple(_case(random, gpus, models) for _ in range(count))


def _case(random: np.random.Generator, gpus: int, models: int) -> Case:
    """Sizes that leave room for the KV cache, and heavy-tailed loads that have little to do with them."""
    while True:
        size = random.choice(SIZES_GB, models, p=SIZE_SHARES)
        if size.sum() <= FULL * gpus * MEMORY_GB:
            break
    load = np.ceil(64 * np.exp(random.normal(1.0, 0.9, models))) / 64
    return Case(load, size, gpus)
