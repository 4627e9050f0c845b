"""The workloads of `kv_eviction`: contexts that a model has read, at budgets of bytes."""

from dataclasses import dataclass

import numpy as np
import torch

from evaluators.evaluation import CandidateError
from evaluators.kv_eviction.compression import Tokens, plain_bytes
from evaluators.kv_eviction.prefilled import Prefilled
from evaluators.kv_eviction.running import LayerCache, plain_cache
from evaluators.kv_eviction.turn import Shown
from evaluators.token_selection.artefacts import learnt

BUDGETS = (0.25, 0.125)  # of the bytes of the plain cache
MEASURED = 128  # tokens of the continuation


@dataclass(frozen=True)
class StagePlan:
    """How much one stage measures."""

    split: str
    contexts: int | None = None  # None: all of the split
    budgets: tuple[float, ...] = BUDGETS
    decoded: int = 0  # tokens of the continuation behind which the cache is compressed again and again


STAGES = {
    "probe": StagePlan("probe"),  # nothing is run in a model
    "search": StagePlan("search", contexts=4),
    "validation": StagePlan("validation", decoded=256),
    "holdout": StagePlan("holdout", decoded=256),
}
LEARNT = ("loss", "copies")  # of what was learnt of a model's heads


@dataclass(frozen=True)
class Cached:
    """A context as it is compressed: its whole cache, and what a policy is shown."""

    context: Prefilled
    tokens: tuple[Tokens, ...]  # of the layers that are compressed
    shown: tuple[Shown, ...]
    windows: dict[int, LayerCache]  # of the other layers

    @property
    def bytes(self) -> int:
        """Of the plain cache of the layers that are compressed."""
        kv_heads, count, size = self.tokens[0].keys.shape
        return len(self.tokens) * kv_heads * plain_bytes(count, size)


def opened(context: Prefilled, weights_sha256: str) -> Cached:
    """A context with its tensors in memory."""
    tokens, shown = [], []
    for number, data in zip(context.layers, context.data, strict=True):
        keys, values = (torch.from_numpy(part.astype(np.float32)) for part in (data.keys, data.values))
        positions = np.broadcast_to(np.arange(context.length), keys.shape[:2]).astype(np.int64)
        tokens.append(Tokens(keys, values, positions))
        shown.append(
            Shown(
                data.queries,
                data.query_mean,
                data.query_covariance,
                data.received,
                data.frequent,
                _learnt(weights_sha256, number),
            )
        )
    windows = {
        layer: LayerCache(
            torch.from_numpy(parts[0].astype(np.float32)),
            torch.from_numpy(parts[1].astype(np.float32)),
            bias=torch.zeros(parts[0].shape[:2]),
            positions=torch.arange(context.length),
        )
        for layer, parts in context.windowed().items()
    }
    return Cached(context, tuple(tokens), tuple(shown), windows)


def full_caches(cached: Cached) -> dict[int, LayerCache]:
    """The whole cache, as a model reads it."""
    full = {
        layer: plain_cache(tokens.keys, tokens.values)
        for layer, tokens in zip(cached.context.layers, cached.tokens, strict=True)
    }
    return full | cached.windows


def _learnt(weights_sha256: str, layer: int) -> dict[str, np.ndarray]:
    """What was learnt of the heads of a layer, nothing for unknown models."""
    try:
        found = learnt(weights_sha256, layer)
    except CandidateError:
        return {}
    return {name: found[name] for name in LEARNT if name in found}
