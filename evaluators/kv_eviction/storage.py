"""How many tokens a number of bytes holds, and what the cache is after it has been compressed.

All of it is the judge's: what a candidate wants comes as checked numbers. A head's keys and values are plain
at 2 bytes a number (fp16); everything else is counted by the table of `interface.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN_BITS = 16
BITS = (2, 4, 8, PLAIN_BITS)
NUMBER = 2  # bytes of an fp16 number
RANGE = 2 * NUMBER  # lowest value and step of a quantised vector
OUTLIER = 2 * NUMBER  # value and place
MOST_RANK, MOST_TIERS = 16, 8


class Tier(NamedTuple):
    """A share of the kept tokens of a head, and the bits of their keys and values."""

    share: float
    key_bits: int = PLAIN_BITS
    value_bits: int = PLAIN_BITS


@dataclass(frozen=True)
class Format:
    """How the tokens of a layer are stored; see `interface.md`. The defaults are plain."""

    tiers: tuple[Tier, ...] = (Tier(1.0),)
    key_channels: float = 1.0
    key_density: float = 1.0
    value_density: float = 1.0
    rank: int = 0
    outliers: float = 0.0
    counts: bool = False
    pair: float = 0.0

    def channels(self, size: int) -> int:
        """How many of `size` key channels are stored."""
        return max(1, round(self.key_channels * size))

    def _vector(self, bits: int, size: int, density: float) -> float:
        """Bytes of one vector."""
        if bits == PLAIN_BITS:
            return NUMBER * size if density == 1 else NUMBER * stored(density, size) + size / 8
        return size * bits / 8 + RANGE + OUTLIER * outliers(self.outliers, size) + NUMBER * self.rank

    def numbers(self, tier: Tier, size: int) -> float:
        """Bytes of the numbers themselves of a token of a tier, without what is needed to read them."""
        keys = self.channels(size) * (self.key_density if tier.key_bits == PLAIN_BITS else 1)
        values = size * (self.value_density if tier.value_bits == PLAIN_BITS else 1)
        return (keys * tier.key_bits + values * tier.value_bits) / 8

    def slot(self, tier: Tier, size: int, state: int) -> float:
        """Bytes of a token of a tier in a head of `size` channels, with `state` numbers that are remembered
        of it.
        """
        vectors = self._vector(tier.key_bits, self.channels(size), self.key_density)
        vectors += self._vector(tier.value_bits, size, self.value_density)
        return vectors + NUMBER * (self.counts + state)

    def fixed(self, size: int) -> float:
        """Bytes of a head that do not depend on how many tokens it holds."""
        stored_size = self.channels(size)
        quantised_keys = sum(tier.key_bits < PLAIN_BITS for tier in self.tiers)
        quantised_values = sum(tier.value_bits < PLAIN_BITS for tier in self.tiers)
        scales = stored_size * quantised_keys + size * quantised_values
        return NUMBER * scales * (1 + self.rank) + (size / 8 if stored_size < size else 0)

    def sizes(self, tokens: int) -> list[int]:
        """How many of so many tokens are in each tier."""
        ends = np.round(np.cumsum([tier.share for tier in self.tiers]) * tokens).astype(int)
        ends[-1] = tokens
        return [int(count) for count in np.diff(ends, prepend=0)]

    def bytes(self, tokens: int, size: int, state: int) -> float:
        """Bytes of a head with so many tokens."""
        slots = (
            count * self.slot(tier, size, state)
            for count, tier in zip(self.sizes(tokens), self.tiers, strict=True)
        )
        return self.fixed(size) + sum(slots)

    def fitting(self, available: float, size: int, state: int, extra: float = 0.0) -> int:
        """The most tokens whose bytes, and `extra` bytes each, are available; at least one."""
        tokens = max(1, int((available - self.fixed(size)) / (extra + self._cheapest(size, state))))
        while tokens > 1 and self.bytes(tokens, size, state) + extra * tokens > available:
            over = self.bytes(tokens, size, state) + extra * tokens - available
            tokens -= max(1, int(over / (extra + self._dearest(size, state))))
        return tokens

    def least(self, size: int, state: int) -> float:
        """Bytes of a head with one token."""
        return self.bytes(1, size, state)

    def _cheapest(self, size: int, state: int) -> float:
        return min(self.slot(tier, size, state) for tier in self.tiers)

    def _dearest(self, size: int, state: int) -> float:
        return max(self.slot(tier, size, state) for tier in self.tiers)


PLAIN = Format()


def stored(density: float, size: int) -> int:
    """How many numbers of a vector stay."""
    return max(1, round(density * size))


def outliers(share: float, size: int) -> int:
    """How many numbers of a quantised vector stay exact."""
    return min(size, round(share * size))


def checked_format(tiers: "NDArray[np.float64]", scalars: "NDArray[np.float64]") -> Format:
    """A format out of numbers that a candidate sent: tiers [T, 3], and the other settings in their order.

    Raises CandidateError for what is none.
    """
    if tiers.ndim != 2 or tiers.shape[1] != 3 or not 1 <= len(tiers) <= MOST_TIERS:
        raise _wrong(f"`tiers` has to be 1 to {MOST_TIERS} triples (share, key_bits, value_bits)")
    shares, bits = tiers[:, 0], tiers[:, 1:]
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise _wrong("the shares of `tiers` have to be positive")
    if not np.isin(bits, BITS).all():
        raise _wrong(f"bits have to be among {', '.join(map(str, BITS))}")
    if scalars.shape != (7,) or not np.isfinite(scalars).all():
        raise _wrong("every setting has to be a finite number")
    channels, keys, values, rank, exact, counts, pair = scalars.tolist()
    for name, share in (("key_channels", channels), ("key_density", keys), ("value_density", values)):
        if not 0 < share <= 1:
            raise _wrong(f"`{name}` has to lie in (0, 1]; it was {share:g}")
    if not 0 <= rank <= MOST_RANK or rank != int(rank):
        raise _wrong(f"`rank` has to be a whole number from 0 to {MOST_RANK}")
    if not 0 <= exact <= 0.5 or not 0 <= pair <= 1:
        raise _wrong("`outliers` has to lie in [0, 0.5] and `pair` in [0, 1]")
    total = float(shares.sum())
    return Format(
        tuple(Tier(float(share) / total, int(key), int(value)) for share, key, value in tiers),
        channels,
        keys,
        values,
        int(rank),
        exact,
        bool(counts),
        pair,
    )


def _wrong(what: str) -> CandidateError:
    return CandidateError(FailureKind.INTERFACE, f"In what `format` returned, {what}.")


def shared_bytes(
    weights: "NDArray[np.float64]", low: "NDArray[np.float64]", high: "NDArray[np.float64]", total: float
) -> "NDArray[np.float64]":
    """`total` bytes shared out in proportion to positive weights, each share between its `low` and `high`.

    Where all of them are at `low` (or `high`) together, they stay there.
    """
    smallest, largest = 0.0, float(total / weights[weights > 0].min())
    for _ in range(100):
        middle = (smallest + largest) / 2
        fits = np.clip(middle * weights, low, high).sum() <= total
        smallest, largest = (middle, largest) if fits else (smallest, middle)
    return np.clip(smallest * weights, low, high)


def quantised(vectors: torch.Tensor, bits: int, exact: int, rank: int) -> torch.Tensor:
    """Vectors [K, D] after they were stored with `bits` and read again.

    Channels are divided by the root of their largest magnitude before each vector is quantised over its own
    range (ZipCache, arXiv:2405.14256); the `exact` largest numbers of each vector stay as they are, and a
    low-rank matrix repairs what is lost (GEAR, arXiv:2403.05527).
    """
    scales = vectors.abs().amax(0).clamp(min=1e-6).sqrt().half().float()
    even = vectors / scales
    places = even.abs().topk(exact, 1).indices if exact else torch.zeros(len(even), 0, dtype=torch.long)
    inner = even.scatter(1, places, even.median(1, keepdim=True).values.expand(-1, exact))
    low = inner.amin(1, keepdim=True).half().float()
    step = ((inner.amax(1, keepdim=True) - low) / (2**bits - 1)).clamp(min=1e-6).half().float()
    found = ((inner - low) / step).round().clamp(0, 2**bits - 1) * step + low
    found = found.scatter(1, places, even.gather(1, places).half().float()) * scales
    if rank:
        left, weights, right = torch.linalg.svd(vectors - found, full_matrices=False)
        left, right = (left * weights)[:, :rank].half().float(), right[:rank].half().float()
        found += left @ right
    read: torch.Tensor = found
    return read


def thinned(vectors: torch.Tensor, density: float) -> torch.Tensor:
    """Vectors [K, D] of which the largest numbers stay and the others read as 0."""
    if density == 1:
        return vectors
    places = vectors.abs().topk(stored(density, vectors.shape[1]), 1).indices
    thin: torch.Tensor = torch.zeros_like(vectors).scatter(1, places, vectors.gather(1, places))
    return thin


def read_again(
    vectors: torch.Tensor, ranks: torch.Tensor, form: Format, density: float, bits: Sequence[int]
) -> torch.Tensor:
    """Vectors [K, D] of one head after they were stored; `ranks` [K] are those of their scores, 0 highest,
    and `bits` those of each tier.
    """
    vectors = vectors.half().float()
    found = vectors.clone()
    order = ranks.argsort()
    begin = 0
    for count, width in zip(form.sizes(len(vectors)), bits, strict=True):
        rows = order[begin : begin + count]
        begin += count
        if not count:
            continue
        if width == PLAIN_BITS:
            found[rows] = thinned(vectors[rows], density)
        else:
            exact = outliers(form.outliers, vectors.shape[1])
            found[rows] = quantised(vectors[rows], width, exact, form.rank)
    return found


def between(first: torch.Tensor, second: torch.Tensor, share: float) -> torch.Tensor:
    """Vectors [K, D] in a direction that lies `share` of the angle from the first to the second, as long as
    the first (MiniCache, arXiv:2405.14366).
    """
    lengths = [part.norm(dim=1, keepdim=True).clamp(min=1e-6) for part in (first, second)]
    one, other = first / lengths[0], second / lengths[1]
    angle = (one * other).sum(1, keepdim=True).clamp(-0.9999, 0.9999).arccos()
    direction = (one * ((1 - share) * angle).sin() + other * (share * angle).sin()) / angle.sin()
    return lengthened(direction, first)


def lengthened(directions: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Vectors [K, D] in these directions, as long as others in fp16."""
    lengths = vectors.norm(dim=1, keepdim=True).half().float()
    found: torch.Tensor = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-6) * lengths
    return found
