"""Generated expert loads that drift from window to window, and what a placement makes of the next one.

The model of the drift: an expert is liked by each of `TOPICS` topics to a degree of its own (log-normal, in
some layers far wider than in others). The mix of topics, one for all layers, wanders as an AR(1) process of
its logits; besides, each expert has a log-load of its own that does so. A window is a multinomial sample of
what that gives, `COUNTED` tokens for each expert on average: the loads of a real server are counts, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.cases.case import Measured, out_of_turn, whole_numbers
from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]

WINDOWS = 8  # that are told; the placement serves the one after them
TOPICS = 6
COUNTED = 150
KEPT = 0.9  # of a deviation, from one window to the next
TASTE = (0.6, 1.8)  # standard deviation of the log of a liking, drawn for each layer
WANDER, OWN = 0.8, 0.3  # standard deviations: logits of the mix, an expert's own drift
# layers, experts, GPUs, slots on each
SHAPES = ((4, 64, 8, 9), (3, 64, 32, 3), (3, 128, 16, 9), (2, 160, 64, 3), (2, 256, 32, 9))
# Of 49 programs with other constants that the search tells apart, this probe tells 46; one of 12 and 16
# experts told 17.
SMALL = ((3, 24, 8, 4), (3, 48, 8, 9), (3, 64, 32, 3))
# stage -> seed of its random numbers, cases of each shape, shapes
STAGES = {
    "probe": (21, 1, SMALL),
    "second_probe": (22, 1, SMALL),
    "search": (23, 3, SHAPES),
    "validation": (24, 3, SHAPES),
    "holdout": (25, 5, SHAPES),
}


@dataclass(frozen=True, eq=False)
class Placing:
    """Experts to be placed. It is its own play: an answer changes nothing of it."""

    history: "NDArray[np.int64]"  # [T, L, E] tokens of each expert in each window, the newest last
    following: "NDArray[np.int64]"  # [L, E] the window that the placement serves; never told
    gpus: int
    slots_per_gpu: int

    def play(self) -> "Placing":
        return self

    def told(self) -> "Arrays":
        return {
            "history": self.history.astype(np.float64),
            "gpus": np.array(self.gpus),
            "slots_per_gpu": np.array(self.slots_per_gpu),
        }

    def answer(self, question: str, arrays: "Arrays") -> "Arrays":
        raise out_of_turn()

    def measured(self, answer: "Arrays") -> Measured:
        phy2log = self.checked(answer)
        balance = self.balance(phy2log, self.following)
        counts = replicas(phy2log, self.experts)
        spare = phy2log.shape[1] - self.experts
        newest = self.balance(phy2log, self.history[-1]).mean()
        average = self.balance(phy2log, self.history.mean(0)).mean()
        return Measured(
            figure=float(balance.mean()),
            metrics={
                "worst_layer": float(balance.min()),
                "balance_on_newest_window": float(newest),
                "balance_on_average_window": float(average),
            },
            descriptors={
                "spread": float((counts > 1).sum(1).mean() / spare),
                "recency": float(newest - average),
            },
        )

    @property
    def experts(self) -> int:
        return int(self.following.shape[1])

    def checked(self, answer: "Arrays") -> "NDArray[np.int64]":
        """The mapping [L, gpus * slots_per_gpu] of an answer. Raises CandidateError for one that is none."""
        shape = (len(self.following), self.gpus * self.slots_per_gpu)
        phy2log = whole_numbers(answer, "phy2log", shape, 0, self.experts - 1)
        missing = np.argwhere(replicas(phy2log, self.experts) == 0)
        if len(missing):
            layer, expert = missing[0]
            raise CandidateError(
                FailureKind.INVALID_OUTPUT,
                f"phy2log has to give every expert a slot; layer {layer} has none for expert {expert} "
                f"({len(missing)} are missing in all).",
            )
        return phy2log

    def balance(self, phy2log: "NDArray[np.int64]", loads: "NDArray[Any]") -> "NDArray[np.float64]":
        """mean over largest load of a GPU, for each layer [L]; replicas share their load evenly."""
        shares = loads / replicas(phy2log, self.experts)
        slots = np.take_along_axis(shares, phy2log, 1)
        gpus = slots.reshape(len(slots), self.gpus, self.slots_per_gpu).sum(2)
        balance: NDArray[np.float64] = gpus.mean(1) / gpus.max(1)
        return balance

    @cached_property
    def bound(self) -> float:
        """What no placement can pass on the next window: see `reference.bound`."""
        from evaluators.moe_load_balance.reference import bound

        slots = self.gpus * self.slots_per_gpu
        return float(np.mean([bound(layer, self.gpus, slots) for layer in self.following.tolist()]))


def replicas(phy2log: "NDArray[np.int64]", experts: int) -> "NDArray[np.int64]":
    """How many slots each expert has, [L, E]."""
    return np.stack([np.bincount(layer, minlength=experts) for layer in phy2log])


def cases(stage: str) -> tuple[Placing, ...]:
    """The cases of a stage, the same on every machine."""
    seed, repeats, shapes = STAGES[stage]
    random = np.random.Generator(np.random.Philox(key=seed))
    return tuple(_case(random, *shape) for shape in shapes for _ in range(repeats))


def _case(random: np.random.Generator, layers: int, experts: int, gpus: int, slots_per_gpu: int) -> Placing:
    taste = random.uniform(*TASTE, (layers, 1))
    liking = np.exp(random.normal(0.0, 1.0, (TOPICS, layers, experts)) * taste)
    mix = random.normal(0.0, WANDER, TOPICS)
    own = random.normal(0.0, OWN, (layers, experts))
    windows = np.empty((WINDOWS + 1, layers, experts), np.int64)
    innovation = np.sqrt(1 - KEPT**2)  # keeps the variance what it is
    for window in windows:
        expected = np.tensordot(np.exp(mix), liking, 1) * np.exp(own)
        for layer, weight in enumerate(expected):
            window[layer] = random.multinomial(COUNTED * experts, weight / weight.sum())
        mix = KEPT * mix + innovation * random.normal(0.0, WANDER, TOPICS)
        own = KEPT * own + innovation * random.normal(0.0, OWN, (layers, experts))
    return Placing(windows[:-1], windows[-1], gpus, slots_per_gpu)
