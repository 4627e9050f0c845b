"""The policy language inside the sandbox: the cache of one step, and the `Index` that a policy keeps.

Nothing here is trusted, and no workload lies behind it: keys, values and the rows of kept indices are with
the judge, outside, which hands out what is asked for and charges it (`meter.py`).
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.token_selection.workloads import dense_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Ask = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


class Link:
    """The way to the judge, and what the turn has cost so far by the judge's word."""

    def __init__(self, ask: "Ask") -> None:
        self._ask = ask
        self.turn = 0
        self.spent_bytes = 0

    def begin(self, turn: int, spent_bytes: int) -> None:
        """Later reads are charged to this turn."""
        self.turn = turn
        self.spent_bytes = spent_bytes

    def read(self, question: str, **asked: np.ndarray) -> np.ndarray:
        """The rows that a question is answered with."""
        answer = self._ask(question, {"turn": np.array(self.turn), **asked})
        self.spent_bytes = int(answer["spent"])
        return answer["rows"]

    def learnt(self) -> "dict[str, Tensor]":
        """What was learnt before for the layer of the turn, by name of the part."""
        parts = self._ask("learnt", {"turn": np.array(self.turn)})
        return {part: torch.from_numpy(tensor.copy()) for part, tensor in parts.items()}


class Index:
    """Rows that a policy keeps between decode steps; only what is read is charged, at their dtype."""

    def __init__(self, rows: "Tensor") -> None:
        if not isinstance(rows, torch.Tensor) or rows.ndim < 2 or rows[:1, :1].numel() == 0:
            raise CandidateError(
                FailureKind.INTERFACE,
                "Index(rows) takes a tensor [KV heads, rows, ...] of 2 or more axes, none of them empty.",
            )
        self._rows = rows.detach().clone()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._rows.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self._rows.dtype

    @property
    def kv_heads(self) -> int:
        return self.shape[0]

    @property
    def length(self) -> int:
        """Number of rows per KV head."""
        return self.shape[1]

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[2:]) * self.dtype.itemsize

    def read(self) -> "Tensor":
        """All rows [G, R, ...], charged in full."""
        return self._rows.clone()

    def gather(self, rows: "Tensor") -> "Tensor":
        """The rows `rows` [G, r] of each KV head as [G, r, ...], charged by the row."""
        rows = row_numbers(rows, self.kv_heads, self.length, "Index.gather")
        return torch.stack([self._rows[head, rows[head]] for head in range(self.kv_heads)])

    def append(self, rows: "Tensor") -> None:
        """Adds rows [G, r, ...] at the end; what is written is charged too."""
        self._rows = torch.cat([self._rows, self._fitting(rows)], dim=1)

    def _fitting(self, rows: "Tensor") -> "Tensor":
        wanted = (self.shape[0], *self.shape[2:])
        if not isinstance(rows, torch.Tensor) or (rows.shape[:1] + rows.shape[2:]) != wanted or rows.ndim < 2:
            got = tuple(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise CandidateError(
                FailureKind.INTERFACE,
                f"Index.append takes rows [{self.kv_heads}, r, {', '.join(map(str, self.shape[2:]))}] like "
                f"those that it holds; it got {got}.",
            )
        return rows.to(self.dtype)


class KeptIndex(Index):
    """An Index whose rows are with the judge, because a process before this one made them."""

    def __init__(self, link: Link, number: int, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        self._link = link
        self._number = np.array(number)
        self._dtype = dtype
        self._shape = shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def number(self) -> int:
        """Of this index among those that the judge keeps for the step."""
        return int(self._number)

    def read(self) -> "Tensor":
        return self._tensor(self._link.read("index", index=self._number))

    def gather(self, rows: "Tensor") -> "Tensor":
        rows = row_numbers(rows, self.kv_heads, self.length, "Index.gather")
        return self._tensor(self._link.read("index", index=self._number, rows=rows.int().numpy()))

    def append(self, rows: "Tensor") -> None:
        sent = raw_rows(self._fitting(rows))
        self._link.read("append", index=self._number, rows=sent)
        self._shape = (self._shape[0], self._shape[1] + sent.shape[1], *self._shape[2:])

    def _tensor(self, raw: np.ndarray) -> "Tensor":
        """Rows [G, r, bytes] as a tensor [G, r, ...]."""
        tensor = torch.from_numpy(raw.copy()).view(self._dtype)
        return tensor.reshape(raw.shape[0], raw.shape[1], *self._shape[2:])


def raw_rows(rows: "Tensor") -> np.ndarray:
    """Rows [G, r, ...] of any dtype as bytes [G, r, bytes per row]."""
    heads, count = rows.shape[:2]
    flat = rows.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return flat.reshape(heads, count, -1) if count else np.zeros((heads, 0, 0), np.uint8)


def row_numbers(rows: "Tensor", kv_heads: int, length: int, where: str) -> "Tensor":
    """`rows` as int64 [G, r], or a CandidateError that says what is wrong with them."""
    if not isinstance(rows, torch.Tensor) or rows.ndim != 2 or rows.shape[0] != kv_heads:
        shape = tuple(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
        raise CandidateError(
            FailureKind.INTERFACE, f"{where} takes row numbers [{kv_heads} KV heads, rows]; it got {shape}."
        )
    rows = rows.long()
    if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= length):
        raise CandidateError(
            FailureKind.INTERFACE,
            f"{where} got row numbers from {int(rows.min())} to {int(rows.max())}; allowed are 0 to "
            f"{length - 1}.",
        )
    return rows


class Shape(NamedTuple):
    """What there is to select from, in the order in which the judge tells it."""

    heads: int  # H
    kv_heads: int  # G
    length: int  # N
    head_size: int  # D
    layer: int
    layers: int


class Cache:
    """The KV cache of one layer at one decode step, as a policy sees it. Every read is charged to the
    step.
    """

    def __init__(self, link: Link, shape: "Shape") -> None:
        self._link = link
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.length, self.head_size = shape.length, shape.head_size
        self.layer, self.layers = shape.layer, shape.layers

    @property
    def spent(self) -> float:
        """Traffic of this step so far, as a fraction of what dense attention reads."""
        return self._link.spent_bytes / dense_bytes(self.kv_heads, self.length, self.head_size)

    def affordable(self, budget: float) -> int:
        """How many more tokens per KV head (key and value) this step may read within `budget`; all of them
        at 100%.
        """
        if budget >= 1:
            return self.length
        left = budget * dense_bytes(self.kv_heads, self.length, self.head_size) - self._link.spent_bytes
        return max(0, min(self.length, int(left / dense_bytes(self.kv_heads, 1, self.head_size) + 1e-6)))

    def keys(self, indices: "Tensor") -> "Tensor":
        """Keys [G, m, D] float32 of the tokens `indices` [G, m]."""
        return self._read("keys", row_numbers(indices, self.kv_heads, self.length, "cache.keys"))

    def values(self, indices: "Tensor") -> "Tensor":
        """Values [G, m, D] float32 of the tokens `indices` [G, m]."""
        return self._read("values", row_numbers(indices, self.kv_heads, self.length, "cache.values"))

    def key_channels(self, channels: "Tensor") -> "Tensor":
        """Single channels [G, N, r] of all keys; channels [G, r] in 0 .. D - 1, each charged for all
        tokens.
        """
        return self._read(
            "channels", row_numbers(channels, self.kv_heads, self.head_size, "cache.key_channels")
        )

    def scores(self, query: "Tensor", indices: "Tensor") -> "Tensor":
        """Scores `q.k / sqrt(D)` [H, m] of the tokens `indices` [G, m]; charges their keys."""
        indices = row_numbers(indices, self.kv_heads, self.length, "cache.scores")
        keys = self._read("scores", indices)
        grouped = query.view(self.kv_heads, -1, self.head_size)
        scores = (grouped @ keys.transpose(1, 2)).reshape(self.heads, -1)
        return scores / math.sqrt(self.head_size)

    def _read(self, question: str, rows: "Tensor") -> "Tensor":
        return torch.from_numpy(self._link.read(question, rows=rows.int().numpy()).astype(np.float32))
