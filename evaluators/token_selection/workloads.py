"""The workloads of `token_selection`: recorded attention, cut into the stages of the evaluation cascade."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evaluators.corpus import Split
from evaluators.recording import SMALL_RECORDING, LayerTensors, Recording
from kvolve import KvolveError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUDGETS = (0.025, 0.05, 0.1, 0.2)  # traffic: fractions of what dense attention reads
BYTES_PER_CHANNEL = 2  # keys and values are cached as fp16
EXACT = 1e-6  # a goal with this epsilon asks for the dense result


class Goal(NamedTuple):
    """What is to be guaranteed in place of a budget: a relative error of the quantity above `epsilon` has a
    probability of at most `delta`.
    """

    epsilon: float
    delta: float
    quantity: str = "output"  # or "numerator", "denominator"

    def __str__(self) -> str:
        return f"{self.epsilon:g},{self.delta:g}"


@dataclass(frozen=True)
class StagePlan:
    """How much of a recording one stage uses. More steps cost more time and give a tighter figure."""

    split: Split
    steps: tuple[
        int, ...
    ]  # the decode steps at which a policy is asked; it sees every new token between them
    budgets: tuple[float, ...] = BUDGETS
    contexts: int | None = None  # None: all contexts of the split
    goals: tuple[Goal, ...] = ()  # in place of budgets


PLANNED_STEPS = 32  # of the recordings for which the stages are planned

# The probe has all budgets, because two policies may differ at one of them only, and adds one of 100%, at
# which a
# policy has to reproduce dense attention.
STAGES = {
    "probe": StagePlan(split="search", steps=(0, 1), budgets=(*BUDGETS, 1.0), contexts=1),
    # other steps, for policies that decided alike on the probe
    "second_probe": StagePlan(split="search", steps=(30, 31), contexts=1),
    "search": StagePlan(split="search", steps=(30, 31)),
    "validation": StagePlan(split="validation", steps=(0, 1, 30, 31)),
    "holdout": StagePlan(split="holdout", steps=tuple(range(32))),
}


@dataclass(frozen=True)
class Layer:
    """One attention layer of one context: N prefilled tokens and T decode steps, of which S are asked for.

    Decode step t sees N + t + 1 tokens.
    """

    queries: "NDArray[np.float32]"  # [S, H, D]
    keys: "NDArray[np.float16]"  # [G, N + T, D], after RoPE
    values: "NDArray[np.float16]"  # [G, N + T, D]
    prompt_queries: "NDArray[np.float16]"  # [P, H, D], at `prompt_positions(N)`


@dataclass(frozen=True)
class Case:
    """One decode step that a policy is asked for, and where its decisions stand in the flat result."""

    number: int
    context: int
    layer: int
    budget: int  # position in the workload's budgets, or goals
    step: int  # position in the workload's steps


@dataclass(frozen=True)
class Workload:
    """All decode steps of one stage: contexts x layers x budgets x steps."""

    stage: str
    contexts: tuple[tuple[Layer, ...], ...]
    prefill: int
    steps: tuple[int, ...]
    budgets: tuple[float, ...]
    sample: int = 0  # which random numbers
    told_layers: tuple[int, ...] = ()  # which layer a policy is told that each one is; by default itself,
    told_count: int = 0  # of all of them
    weights_sha256: str = ""  # of the model that the contexts are of,
    numbers: tuple[int, ...] = ()  # and which of its layers these are
    goals: tuple[Goal, ...] = ()  # what is asked for in place of budgets, which are 100% then

    @property
    def scored(self) -> list[int]:
        """Positions of the budgets, or goals, that count; at the others a policy has to be exact."""
        if self.goals:
            return [number for number, goal in enumerate(self.goals) if goal.epsilon > EXACT]
        return [number for number, budget in enumerate(self.budgets) if budget < 1]

    @property
    def layers(self) -> int:
        return len(self.contexts[0])

    def told(self, layer: int) -> tuple[int, int]:
        """What a policy is told of a layer: which one it is, of how many."""
        return (self.told_layers[layer], self.told_count) if self.told_count else (layer, self.layers)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.contexts), self.layers, len(self.budgets), len(self.steps)

    def length(self, step: int) -> int:
        """Cached tokens at a step, given by its position: the newest one is the query's own."""
        return self.prefill + self.steps[step] + 1

    def seed(self, case: Case, draw: int) -> int:
        """Of a policy's random numbers in a case. A policy that could foresee it would know whether it is
        being scored or tested, so that it depends on values of all layers.
        """
        drawn = f"{case.number} {draw}" + (f" {self.sample}" if self.sample else "")
        digest = hashlib.sha256(drawn.encode() + self._newest_values)
        return int.from_bytes(digest.digest()[:7], "big")

    @cached_property
    def _newest_values(self) -> bytes:
        return b"".join(layer.values[:, -1].tobytes() for layers in self.contexts for layer in layers)

    def cases(self, context: int, layer: int) -> Iterator[Case]:
        """The cases of one layer of one context, budget by budget; numbered over the whole workload."""
        first = (context * self.layers + layer) * len(self.budgets) * len(self.steps)
        for budget in range(len(self.budgets)):
            for step in range(len(self.steps)):
                yield Case(first + budget * len(self.steps) + step, context, layer, budget, step)


def dense_bytes(kv_heads: int, tokens: int, head_size: int) -> int:
    """Bytes that dense attention reads in one decode step of one layer: all keys and all values in fp16."""
    return kv_heads * tokens * 2 * head_size * BYTES_PER_CHANNEL


def open_workload(stage: str, recording: Path, plan: StagePlan | None = None) -> Workload:
    """What `stage` uses of a recording, as planned; keys and values stay in its files, mapped."""
    plan = plan or STAGES[stage]
    source = Recording.open(recording, splits=(plan.split,))
    chosen = source.contexts(plan.split)[: plan.contexts]
    prefill = chosen[0].prefill
    steps = fitted_steps(plan.steps, chosen[0].steps)
    contexts = []
    for context in chosen:
        layers = source.load(context)
        contexts.append(tuple(_layer(layers[number], prefill, steps) for number in sorted(layers)))
    return Workload(
        stage,
        tuple(contexts),
        prefill,
        steps,
        (1.0,) * len(plan.goals) if plan.goals else plan.budgets,
        goals=plan.goals,
        weights_sha256=source.manifest.weights_sha256,
        numbers=source.manifest.layers,
    )


def fitted_steps(planned: tuple[int, ...], recorded: int) -> tuple[int, ...]:
    """The planned steps in a recording of another length: the first half counts from its start, the rest
    from its end.

    Raises KvolveError for a recording of fewer than two steps, in which none follows another.
    """
    if recorded < 2:
        raise KvolveError("The recording has a single decode step; make one with --steps 2 or more.")
    moved = (step if step < PLANNED_STEPS // 2 else recorded - PLANNED_STEPS + step for step in planned)
    return tuple(sorted({step for step in moved if 0 <= step < recorded}))


def _layer(recorded: LayerTensors, prefill: int, steps: tuple[int, ...]) -> Layer:
    tokens = prefill + steps[-1] + 1
    return Layer(
        queries=recorded.queries[list(steps)].astype(np.float32),
        keys=recorded.keys[:, :tokens],
        values=recorded.values[:, :tokens],
        prompt_queries=recorded.prompt_queries,
    )


def recording_of(stage: str, recording: Path) -> Path:
    """The recording that a stage reads: the probes of the default model use the committed small one.

    A recording of another model brings its own shapes, so that it is probed on its own first search context.
    """
    if stage not in ("probe", "second_probe"):
        return recording
    small, own = Recording.open(SMALL_RECORDING), Recording.open(recording)
    same_shape = (small.manifest.heads, small.manifest.kv_heads, small.manifest.head_size) == (
        own.manifest.heads,
        own.manifest.kv_heads,
        own.manifest.head_size,
    )
    return SMALL_RECORDING if same_shape else recording
