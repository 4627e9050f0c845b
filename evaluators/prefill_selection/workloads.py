"""The workloads of `prefill_selection`: whole query blocks of recorded prompts, cut into the stages of the
cascade.

A recording has the queries of four blocks of 64 tokens, each at the end of a quarter of the prompt. The
first three are scored. The last one may be looked at by policies that let the end of a prompt speak for all
of it, and is not scored: of a long prompt it is one block in very many, here it would be one in four.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluators.corpus import Split
from evaluators.recording import PROMPT_BLOCK, LayerTensors, Recording, prompt_blocks
from kvolve import KvolveError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUDGETS = (0.2, 0.3, 0.5)  # computed fractions of what dense attention computes
LEAST_PREFILL = 800  # below it, the blocks on the diagonal leave too little of the smallest budget


@dataclass(frozen=True)
class StagePlan:
    """How much of a recording one stage uses."""

    split: Split
    blocks: tuple[int, ...] = (0, 1, 2)  # the query blocks that are scored
    budgets: tuple[float, ...] = BUDGETS
    contexts: int | None = None  # None: all contexts of the split


# The probe adds a budget of 100%, at which a policy has to reproduce dense attention.
STAGES = {
    "probe": StagePlan("search", blocks=(0, 2), budgets=(*BUDGETS, 1.0), contexts=1),
    # another block, for policies that decided alike on the probe
    "second_probe": StagePlan("search", blocks=(1,), contexts=1),
    "search": StagePlan("search"),
    "validation": StagePlan("validation"),
    "holdout": StagePlan("holdout"),
}


@dataclass(frozen=True)
class QueryBlock:
    """The queries of M consecutive tokens, begin .. end - 1; each of them sees the tokens up to itself."""

    queries: "NDArray[np.float32]"  # [H, M, D], after RoPE
    begin: int
    end: int

    @property
    def rows(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Layer:
    """One attention layer of one context of N tokens."""

    keys: "NDArray[np.float16]"  # [G, N, D], after RoPE
    values: "NDArray[np.float16]"  # [G, N, D]
    blocks: tuple[QueryBlock, ...]  # those that are scored, in their order
    last: QueryBlock  # the end of the prompt

    @property
    def heads(self) -> int:
        return len(self.last.queries)


@dataclass(frozen=True)
class Workload:
    """All query blocks of one stage: contexts x layers x blocks, each at all budgets."""

    stage: str
    contexts: tuple[tuple[Layer, ...], ...]
    budgets: tuple[float, ...]
    sample: int = 0  # which random numbers

    @property
    def layers(self) -> int:
        return len(self.contexts[0])

    def seed(self, context: int, layer: int, budget: int, block: int) -> int:
        """Of a policy's random numbers for one query block; it depends on values that no policy is shown."""
        drawn = f"{context} {layer} {budget} {block} {self.sample}"
        return int.from_bytes(hashlib.sha256(drawn.encode() + self._newest_values).digest()[:7], "big")

    @cached_property
    def _newest_values(self) -> bytes:
        return b"".join(layer.values[:, -1].tobytes() for layers in self.contexts for layer in layers)


def open_workload(stage: str, recording: Path) -> Workload:
    """What `stage` uses of a recording; keys and values stay in its files, mapped."""
    plan = STAGES[stage]
    source = Recording.open(recording, splits=(plan.split,))
    chosen = source.contexts(plan.split)[: plan.contexts]
    prefill = chosen[0].prefill
    contexts = []
    for context in chosen:
        layers = source.load(context)
        contexts.append(tuple(_layer(layers[number], prefill, plan.blocks) for number in sorted(layers)))
    return Workload(stage, tuple(contexts), plan.budgets)


def check_length(recording: Path) -> None:
    """Raises KvolveError for a recording whose prompts are too short."""
    prefill = Recording.open(recording, splits=()).manifest.contexts[0].prefill
    if prefill < LEAST_PREFILL:
        raise KvolveError(
            f"The contexts of {recording} have {prefill} tokens; this problem needs {LEAST_PREFILL} or more. "
            "Make the recording with a longer --prefill."
        )


def _layer(recorded: LayerTensors, prefill: int, scored: tuple[int, ...]) -> Layer:
    blocks, first = [], 0
    for begin, end in prompt_blocks(prefill):
        rows = recorded.prompt_queries[first : first + end - begin].astype(np.float32)
        blocks.append(QueryBlock(np.ascontiguousarray(rows.swapaxes(0, 1)), begin, end))
        first += end - begin
    return Layer(
        keys=recorded.keys[:, :prefill],
        values=recorded.values[:, :prefill],
        blocks=tuple(blocks[number] for number in scored),
        last=blocks[-1],
    )


def dense_products(heads: int, rows: int, tokens: int) -> int:
    """Products of vectors that computing `tokens` columns for a block of `rows` queries takes: one for each
    score, and one for each value that is weighed with it.
    """
    return 2 * heads * rows * tokens


def prompt_products(heads: int, prefill: int) -> int:
    """Products of dense attention over a whole prompt, in blocks of 64 queries counted from its end."""
    return sum(dense_products(heads, min(PROMPT_BLOCK, end), end) for end in range(prefill, 0, -PROMPT_BLOCK))
