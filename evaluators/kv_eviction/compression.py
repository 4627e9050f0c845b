"""From scores to a compressed cache: which tokens stay in each head, and what is read of them later."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluators.kv_eviction.running import LayerCache
from evaluators.kv_eviction.storage import NUMBER, PLAIN, Format, between, read_again, shared_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTHS = 2 * NUMBER  # bytes of what the second layer of a pair stores of a token


@dataclass(frozen=True)
class Tokens:
    """What a layer has cached: heads with fewer tokens than others are padded, with positions of -1."""

    keys: torch.Tensor  # [G, n, D] float32
    values: torch.Tensor
    positions: "NDArray[np.int64]"  # [G, n]
    counts: torch.Tensor | None = None  # [G, n], how many tokens each stands for
    state: "NDArray[np.float16] | None" = None  # [G, n, S]

    @property
    def sizes(self) -> "NDArray[np.int64]":
        """Tokens of each head [G]."""
        found: NDArray[np.int64] = (self.positions >= 0).sum(1)
        return found


@dataclass(frozen=True)
class Head:
    """What stays of one KV head."""

    kept: "NDArray[np.int64]"  # [K], places among the cached tokens, ascending
    ranks: "NDArray[np.int64]"  # [K], of their scores: 0 is the highest
    plain: bool  # whether nothing has to leave
    bytes: float


@dataclass(frozen=True)
class Plan:
    """What stays of all layers, [L][G]."""

    heads: tuple[tuple[Head, ...], ...]
    formats: tuple[Format, ...]
    paired: frozenset[int]  # layers that are stored together with the one before

    @property
    def bytes(self) -> float:
        return sum(head.bytes for layer in self.heads for head in layer)

    def kept(self, layer: int) -> "NDArray[np.int64]":
        """What stays of a layer [G, K], padded with -1."""
        return padded([head.kept for head in self.heads[layer]])


def plain_bytes(tokens: int, size: int) -> int:
    """Bytes of a head with so many plain tokens."""
    return tokens * 2 * size * NUMBER


def planned(
    layers: Sequence[Tokens],
    scores: "Sequence[NDArray[np.float32]]",
    weights: "NDArray[np.float64]",
    formats: Sequence[Format],
    total: float,
) -> Plan:
    """Which tokens stay within `total` bytes, by scores [G, n] of each layer and weights [L, G]."""
    size = layers[0].keys.shape[2]
    states = [0 if layer.state is None else layer.state.shape[2] for layer in layers]
    sizes = np.stack([layer.sizes for layer in layers])  # [L, G]
    high = np.array([plain_bytes(1, size) + NUMBER * state for state in states], np.float64)[:, None] * sizes
    low = np.stack([np.full(sizes.shape[1], form.least(size, 0)) for form in formats]) + 2 * size * NUMBER
    if sizes.sum() * plain_bytes(1, size) <= total:  # nothing has to leave, so nothing has to be remembered
        everything = tuple(
            tuple(_all(scored, count, 0.0) for scored, count in zip(*layer, strict=True))
            for layer in zip(scores, sizes, strict=True)
        )
        return Plan(everything, (PLAIN,) * len(layers), frozenset())
    paired = _paired(formats, layers)
    weights = weights.copy()
    for layer in paired:
        weights[layer - 1] += weights[layer]
        high[layer - 1] += high[layer]
        low[layer - 1] += low[layer]
        weights[layer] = high[layer] = low[layer] = 0
    given = shared_bytes(weights, np.minimum(low, high), high, total)
    found: list[tuple[Head, ...]] = []
    for number, form in enumerate(formats):
        if number in paired:
            found.append(tuple(replace(head, bytes=0.0) for head in found[-1]))
            continue
        extra = LENGTHS + NUMBER * states[number + 1] if number + 1 in paired else 0.0
        room = Room(form, size, states[number], extra)
        heads = zip(scores[number], sizes[number], given[number], high[number], strict=True)
        found.append(
            tuple(
                _all(scored, count, most) if part >= most else room.best(scored, count, part)
                for scored, count, part, most in heads
            )
        )
    return Plan(tuple(found), tuple(formats), paired)


def _paired(formats: Sequence[Format], layers: Sequence[Tokens]) -> frozenset[int]:
    """The layers that are stored with the one before, with the same tokens; no layer with two others."""
    paired: set[int] = set()
    for number, form in enumerate(formats):
        if not form.pair or not number or number - 1 in paired:
            continue
        if np.array_equal(layers[number].positions, layers[number - 1].positions):
            paired.add(number)
    return frozenset(paired)


def _order(scores: "NDArray[np.float32]", count: int) -> "NDArray[np.int64]":
    """Places of a head's tokens, the highest scores first, of equal ones the later token."""
    return np.lexsort((-np.arange(count), -scores[:count]))


def _all(scores: "NDArray[np.float32]", count: int, bytes_: float) -> Head:
    ranks = np.empty(count, np.int64)
    ranks[_order(scores, count)] = np.arange(count)
    return Head(np.arange(count), ranks, True, bytes_)


@dataclass(frozen=True)
class Room:
    """What a token takes in the heads of a layer."""

    form: Format
    size: int
    state: int
    extra: float  # bytes of each token for the layer that is stored with this one

    def best(self, scores: "NDArray[np.float32]", count: int, available: float) -> Head:
        """As many of a head's tokens as so many bytes hold, by their scores."""
        fitting = self.form.fitting(available, self.size, self.state, self.extra)
        tokens = min(fitting, count)
        best = _order(scores, count)[:tokens]
        ranks = best.argsort()  # of the kept tokens in the order of their places
        bytes_ = self.form.bytes(tokens, self.size, self.state) + self.extra * tokens
        return Head(best[ranks], ranks, False, bytes_)


def padded(rows: "Sequence[NDArray[np.int64]]") -> "NDArray[np.int64]":
    """Rows of different lengths as one array, filled up with -1."""
    found = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for row, places in enumerate(rows):
        found[row, : len(places)] = places
    return found


@dataclass(frozen=True)
class Written:
    """What a policy writes into the places of the tokens that stay in a layer."""

    keys: torch.Tensor | None = None  # [G, K, D]
    values: torch.Tensor | None = None
    counts: torch.Tensor | None = None  # [G, K]
    channels: torch.Tensor | None = None  # [G, D], importance of key channels


def compressed(layers: Sequence[Tokens], plan: Plan, written: Sequence[Written]) -> list[Tokens]:
    """The cache after it was stored by a plan and read again."""
    found = [
        _stored(layer, heads, form, what)
        for layer, heads, form, what in zip(layers, plan.heads, plan.formats, written, strict=True)
    ]
    for number in plan.paired:
        found[number - 1], found[number] = _joined(found[number - 1], found[number], plan, number)
    return found


def _stored(layer: Tokens, heads: Sequence[Head], form: Format, written: Written) -> Tokens:
    size = layer.keys.shape[2]
    kept = padded([head.kept for head in heads])
    keys, values = (torch.zeros(*kept.shape, size) for _ in range(2))
    counts = torch.ones(kept.shape)
    stored = form.channels(size)
    for number, head in enumerate(heads):
        count, places = len(head.kept), torch.from_numpy(head.kept)
        key, value = layer.keys[number, places], layer.values[number, places]
        if layer.counts is not None:
            counts[number, :count] = layer.counts[number, places]
        if not head.plain and not form.pair:
            if written.keys is not None and written.values is not None:
                key, value = written.keys[number, :count], written.values[number, :count]
            if written.counts is not None:
                counts[number, :count] = written.counts[number, :count].half().float()
            ranks = torch.from_numpy(head.ranks)
            value = read_again(value, ranks, form, form.value_density, [t.value_bits for t in form.tiers])
            channels = torch.arange(size)
            if stored < size:
                importance = written.channels[number] if written.channels is not None else key.norm(dim=0)
                channels = importance.argsort(descending=True, stable=True)[:stored].sort().values
            part = read_again(
                key[:, channels], ranks, form, form.key_density, [t.key_bits for t in form.tiers]
            )
            key = torch.zeros(count, size).index_copy(1, channels, part)
        keys[number, :count], values[number, :count] = key, value
    positions = np.where(kept >= 0, np.take_along_axis(layer.positions, np.maximum(kept, 0), 1), -1)
    state = layer.state
    if state is not None:
        state = np.take_along_axis(state, np.maximum(kept, 0)[..., None], 1)
    counted = form.counts or layer.counts is not None
    return Tokens(keys, values, positions, counts if counted else None, state)


def _joined(first: Tokens, second: Tokens, plan: Plan, number: int) -> tuple[Tokens, Tokens]:
    """Two layers after their heads have got common directions, but for those that are plain."""
    parts = [first.keys.clone(), first.values.clone(), second.keys.clone(), second.values.clone()]
    for head, what in enumerate(plan.heads[number]):
        if what.plain:
            continue
        count = len(what.kept)
        for one, other in ((0, 2), (1, 3)):
            found = between(parts[one][head, :count], parts[other][head, :count], plan.formats[number].pair)
            parts[one][head, :count], parts[other][head, :count] = found
    return (
        Tokens(parts[0], parts[1], first.positions, first.counts, first.state),
        Tokens(parts[2], parts[3], second.positions, second.counts, second.state),
    )


def cache_of(tokens: Tokens) -> LayerCache:
    """What a model reads of a layer."""
    bias = torch.zeros(tokens.positions.shape)
    if tokens.counts is not None:
        bias = tokens.counts.clamp(min=1e-6).log()
    bias = bias.masked_fill(torch.from_numpy(tokens.positions < 0), -torch.inf)
    return LayerCache(tokens.keys, tokens.values, bias)
