"""Text that is generated while the cache stays bounded: it is compressed before each chunk of new tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evaluators.kv_eviction.compression import Tokens, caches_of, paid, plain_bytes
from evaluators.kv_eviction.layer import BLOCK
from evaluators.kv_eviction.running import LayerCache, log_probabilities
from evaluators.kv_eviction.turn import Shown, Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.kv_eviction.workloads import Cached

New = dict[int, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]  # layer -> queries, keys, values


@dataclass
class Decoding:
    """One context at one budget, after it was compressed: the text's own tokens are fed, chunk by chunk."""

    cached: "Cached"
    budget: float
    tokens: Sequence[Tokens]
    shown: Sequence[Shown]
    windows: dict[int, LayerCache]
    length: int

    def turn(self) -> Turn:
        """The compression that makes room for a chunk."""
        kv_heads, _, size = self.tokens[0].keys.shape
        room = len(self.tokens) * kv_heads * plain_bytes(BLOCK, size)
        total = self.budget * self.cached.bytes - room
        return Turn(self.budget, total, self.length, self.tokens, self.shown)

    def follow(self, model: Any, turn: Turn, chunk: Sequence[int]) -> torch.Tensor:
        """Feeds a chunk: log-probabilities [T, V] of what follows each of its tokens."""
        assert turn.result is not None
        layers = self.cached.context.layers
        caches = caches_of(layers, turn.result, self.windows)
        new: New = {}

        def see(layer: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
            new[layer] = queries, keys, values

        log_probs = log_probabilities(model, [chunk], self.length, caches, rows=range(len(chunk)), see=see)
        at = np.arange(self.length, self.length + len(chunk))
        self.length += len(chunk)
        tokens, shown = [], []
        for layer, part, before in zip(layers, turn.result, self.shown, strict=True):
            queries, keys, values = new[layer]
            after = appended(part, keys, values, at)
            received, frequent = paid(queries, after, at)
            tokens.append(after)
            shown.append(
                Shown(
                    queries.half().numpy(),
                    before.query_mean,
                    before.query_covariance,
                    received.half().numpy()[None],
                    frequent.half().numpy()[None],
                    before.learnt,
                )
            )
        self.tokens, self.shown = tokens, shown
        self.windows = {layer: _window(cache, *new[layer][1:], at) for layer, cache in self.windows.items()}
        return log_probs


def appended(tokens: Tokens, keys: torch.Tensor, values: torch.Tensor, at: "NDArray[np.int64]") -> Tokens:
    """A layer's cache with new tokens [G, T, D] behind those of each head."""
    kv_heads, count, size = keys.shape
    sizes = tokens.sizes
    width = int(sizes.max()) + count
    found_keys, found_values = (torch.zeros(kv_heads, width, size) for _ in range(2))
    counts, positions = torch.ones(kv_heads, width), np.full((kv_heads, width), -1, np.int64)
    states = 0 if tokens.state is None else tokens.state.shape[2]
    state = np.zeros((kv_heads, width, states), np.float16)
    for head, old in enumerate(sizes.tolist()):
        end = old + count
        found_keys[head, :old], found_keys[head, old:end] = tokens.keys[head, :old], keys[head]
        found_values[head, :old], found_values[head, old:end] = tokens.values[head, :old], values[head]
        positions[head, :old], positions[head, old:end] = tokens.positions[head, :old], at
        if tokens.counts is not None:
            counts[head, :old] = tokens.counts[head, :old]
        if tokens.state is not None:
            state[head, :old] = tokens.state[head, :old]
    return Tokens(
        found_keys,
        found_values,
        positions,
        None if tokens.counts is None else counts,
        None if tokens.state is None else state,
    )


def _window(
    cache: LayerCache, keys: torch.Tensor, values: torch.Tensor, at: "NDArray[np.int64]"
) -> LayerCache:
    """The cache of a layer with a sliding window, with new tokens."""
    assert cache.positions is not None
    return LayerCache(
        torch.cat([cache.keys, keys], 1),
        torch.cat([cache.values, values], 1),
        torch.cat([cache.bias, torch.zeros(keys.shape[:2])], 1),
        torch.cat([cache.positions, torch.from_numpy(at)]),
    )
