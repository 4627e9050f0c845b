"""From scores to a compressed cache: which tokens stay in each head, and what is read of them later."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluators.kv_eviction.running import LayerCache
from evaluators.kv_eviction.storage import (
    NUMBER,
    PLAIN,
    Format,
    between,
    lengthened,
    read_again,
    shared_bytes,
)

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
    found: list[Tokens] = []
    for number, layer in enumerate(layers):
        if number + 1 in plan.paired:
            continue  # it is stored with the next one
        if number in plan.paired:
            leader, follower = _joined(layers[number - 1], layer, plan, number)
            found.append(_stored(leader, plan, number - 1, written[number - 1]))
            found.append(_following(found[-1], follower, plan.heads[number]))
        else:
            found.append(_stored(_staying(layer, plan.heads[number]), plan, number, written[number]))
    return found


def _staying(layer: Tokens, heads: Sequence[Head]) -> Tokens:
    """The tokens of a layer that stay."""
    kept = padded([head.kept for head in heads])
    places = np.maximum(kept, 0)
    rows = torch.arange(len(heads))[:, None]
    state = layer.state
    return Tokens(
        layer.keys[rows, torch.from_numpy(places)],
        layer.values[rows, torch.from_numpy(places)],
        np.where(kept >= 0, np.take_along_axis(layer.positions, places, 1), -1),
        None if layer.counts is None else layer.counts[rows, torch.from_numpy(places)],
        None if state is None else np.take_along_axis(state, places[..., None], 1),
    )


def _stored(tokens: Tokens, plan: Plan, number: int, written: Written) -> Tokens:
    """What stays of a layer, after it was stored by its format and read again."""
    form, size = plan.formats[number], tokens.keys.shape[2]
    keys, values = tokens.keys.clone(), tokens.values.clone()
    counts = torch.ones(tokens.positions.shape) if tokens.counts is None else tokens.counts.clone()
    stored = form.channels(size)
    for row, head in enumerate(plan.heads[number]):
        count = len(head.kept)
        if head.plain:
            continue
        key, value = keys[row, :count], values[row, :count]
        if written.keys is not None and written.values is not None:
            key, value = written.keys[row, :count], written.values[row, :count]
        if written.counts is not None:
            counts[row, :count] = written.counts[row, :count].half().float()
        ranks = torch.from_numpy(head.ranks)
        values[row, :count] = read_again(
            value, ranks, form, form.value_density, [tier.value_bits for tier in form.tiers]
        )
        channels = torch.arange(size)
        if stored < size:
            importance = written.channels[row] if written.channels is not None else key.norm(dim=0)
            channels = importance.argsort(descending=True, stable=True)[:stored].sort().values
        part = read_again(
            key[:, channels], ranks, form, form.key_density, [tier.key_bits for tier in form.tiers]
        )
        keys[row, :count] = torch.zeros(count, size).index_copy(1, channels, part)
    counted = form.counts or tokens.counts is not None
    return replace(tokens, keys=keys, values=values, counts=counts if counted else None)


def _joined(first: Tokens, second: Tokens, plan: Plan, number: int) -> tuple[Tokens, Tokens]:
    """What stays of two layers, the first one with the directions that both share, but for plain heads."""
    leader, follower = (_staying(layer, plan.heads[number]) for layer in (first, second))
    keys, values = leader.keys.clone(), leader.values.clone()
    for row, head in enumerate(plan.heads[number]):
        if not head.plain:
            share = plan.formats[number].pair
            keys[row] = between(leader.keys[row], follower.keys[row], share)
            values[row] = between(leader.values[row], follower.values[row], share)
    return replace(leader, keys=keys, values=values), follower


def _following(leader: Tokens, follower: Tokens, heads: Sequence[Head]) -> Tokens:
    """The second layer of a pair: directions as the first one stored them, at lengths of its own."""
    keys, values = follower.keys.clone(), follower.values.clone()
    for row, head in enumerate(heads):
        if not head.plain:
            keys[row] = lengthened(leader.keys[row], follower.keys[row])
            values[row] = lengthened(leader.values[row], follower.values[row])
    return replace(follower, keys=keys, values=values)


def caches_of(
    layers: Sequence[int], tokens: Sequence[Tokens], windows: Mapping[int, LayerCache]
) -> dict[int, LayerCache]:
    """What a model reads of all layers: those that were compressed, by number, and the others."""
    return {layer: cache_of(part) for layer, part in zip(layers, tokens, strict=True)} | dict(windows)


def cache_of(tokens: Tokens) -> LayerCache:
    """What a model reads of a layer."""
    bias = torch.zeros(tokens.positions.shape)
    if tokens.counts is not None:
        bias = tokens.counts.clamp(min=1e-6).log()
    bias = bias.masked_fill(torch.from_numpy(tokens.positions < 0), -torch.inf)
    return LayerCache(tokens.keys, tokens.values, bias)


def paid(queries: torch.Tensor, tokens: Tokens, at: "NDArray[np.int64]") -> tuple[torch.Tensor, torch.Tensor]:
    """What queries [H, T, D] at positions `at` [T] pay to cached tokens: mean attention [G, n], and the share
    of queries that pay more than an equal part. Queries that do not see a token do not count for it; padding
    gets nothing.
    """
    kv_heads, size = tokens.keys.shape[0], tokens.keys.shape[2]
    cache = cache_of(tokens)
    grouped = queries.reshape(kv_heads, -1, len(at), size)
    scores = torch.einsum("ghtd,gnd->ghtn", grouped, tokens.keys) / size**0.5 + cache.bias[:, None, None]
    positions = torch.from_numpy(tokens.positions)[:, None]
    seen = (positions >= 0) & (positions <= torch.from_numpy(at)[:, None])  # [G, T, n]
    weights = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
    seeing = (grouped.shape[1] * seen.sum(1)).clamp(min=1)
    often = weights * seen.sum(2)[:, None, :, None] > 1
    return weights.sum((1, 2)) / seeing, often.sum((1, 2)) / seeing
