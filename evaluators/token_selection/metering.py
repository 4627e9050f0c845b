"""What a policy reads is counted here: the metered cache, and the `Index` of the policy language.

Both live inside the sandbox, next to the candidate. The screen keeps candidates away from every name that
begins with an underscore, and the judge recomputes outside what the selection itself costs.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.token_selection.workloads import BYTES_PER_CHANNEL, dense_bytes

if TYPE_CHECKING:
    from torch import Tensor

BYTES_PER_NUMBER = 8  # a Python number or a character's worth of state


class Ledger:
    """Bytes read in one decode step of one layer. Each row counts once per step and KV head."""

    def __init__(self) -> None:
        self.start(1, 1, 1)

    def start(self, kv_heads: int, length: int, head_size: int, state_bytes: int = 0) -> None:
        """Begins a step over `length` tokens; `state_bytes` are the tensors that the policy kept outside an
        Index.
        """
        self.key_rows = torch.zeros(kv_heads, length, dtype=torch.bool)
        self.value_rows = torch.zeros(kv_heads, length, dtype=torch.bool)
        self.key_channels = torch.zeros(kv_heads, head_size, dtype=torch.bool)
        self.index_rows: dict[int, tuple[Index, Tensor]] = {}
        self.written_bytes = 0
        self.state_bytes = state_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one key or one value of one KV head."""
        return self.key_channels.shape[1] * BYTES_PER_CHANNEL

    def index_bytes(self) -> int:
        """Bytes read to decide that are neither keys nor values: index rows, kept state, single key
        channels.
        """
        rows = sum(int(mask.sum()) * index.row_bytes for index, mask in self.index_rows.values())
        channels = int(self.key_channels.sum()) * self.key_rows.shape[1] * BYTES_PER_CHANNEL
        return rows + channels + self.state_bytes + self.written_bytes

    def spent(self) -> int:
        """All bytes read so far in this step."""
        rows = int(self.key_rows.sum()) + int(self.value_rows.sum())
        return rows * self.row_bytes + self.index_bytes()

    def beyond(self, selected: "Tensor") -> int:
        """Bytes read besides the keys and values of the selected rows (selected: [G, N] bool)."""
        unused = int((self.key_rows & ~selected).sum()) + int((self.value_rows & ~selected).sum())
        return unused * self.row_bytes + self.index_bytes()

    def read_index(self, index: "Index", rows: "Tensor | None") -> None:
        """Charges rows [G, r] of an index, or all of it."""
        _, mask = self.index_rows.setdefault(
            id(index), (index, torch.zeros(index.kv_heads, index.length, dtype=torch.bool))
        )
        if rows is None:
            mask.fill_(True)
        else:
            mask.scatter_(1, rows, True)


LEDGER = Ledger()  # one candidate runs in one process, one step at a time


class Index:
    """Rows that a policy keeps between decode steps; only what is read is charged, at the dtype of the
    rows.
    """

    def __init__(self, rows: "Tensor") -> None:
        if not isinstance(rows, torch.Tensor) or rows.ndim < 2:
            raise CandidateError(
                FailureKind.INTERFACE,
                "Index(rows) takes a tensor [KV heads, rows, ...]; give it one of 2 or more axes.",
            )
        self._rows = rows.detach().clone()

    @property
    def kv_heads(self) -> int:
        return self._rows.shape[0]

    @property
    def length(self) -> int:
        """Number of rows per KV head."""
        return self._rows.shape[1]

    @property
    def row_bytes(self) -> int:
        return self._rows[0, 0].numel() * self._rows.element_size() if self.length else 0

    def read(self) -> "Tensor":
        """All rows [G, R, ...], charged in full."""
        LEDGER.read_index(self, None)
        return self._rows.clone()

    def gather(self, rows: "Tensor") -> "Tensor":
        """The rows `rows` [G, r] of each KV head as [G, r, ...], charged by the row."""
        rows = row_numbers(rows, self.kv_heads, self.length, "Index.gather")
        LEDGER.read_index(self, rows)
        return torch.stack([self._rows[head, rows[head]] for head in range(self.kv_heads)])

    def append(self, rows: "Tensor") -> None:
        """Adds rows [G, r, ...] at the end; what is written is charged too."""
        rows = rows.to(self._rows.dtype)
        LEDGER.written_bytes += rows.numel() * rows.element_size()
        self._rows = torch.cat([self._rows, rows], dim=1)


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


class Cache:
    """The KV cache of one layer at one decode step, as a policy sees it. Every read is charged to the
    step.
    """

    def __init__(self, keys: "Tensor", values: "Tensor", heads: int, layer: int, layers: int) -> None:
        """keys and values are [G, N, D] float32 (views, never handed out themselves)."""
        self._keys = keys
        self._values = values
        self.heads = heads
        self.kv_heads, self.length, self.head_size = keys.shape
        self.layer = layer
        self.layers = layers

    @property
    def spent(self) -> float:
        """Traffic of this step so far, as a fraction of what dense attention reads."""
        return LEDGER.spent() / dense_bytes(self.kv_heads, self.length, self.head_size)

    def affordable(self, budget: float) -> int:
        """How many more tokens per KV head (key and value) this step may read within `budget`; all of them
        at 100%.
        """
        if budget >= 1:
            return self.length
        left = budget * dense_bytes(self.kv_heads, self.length, self.head_size) - LEDGER.spent()
        return max(0, min(self.length, int(left / dense_bytes(self.kv_heads, 1, self.head_size) + 1e-6)))

    def keys(self, indices: "Tensor") -> "Tensor":
        """Keys [G, m, D] float32 of the tokens `indices` [G, m]."""
        indices = row_numbers(indices, self.kv_heads, self.length, "cache.keys")
        LEDGER.key_rows.scatter_(1, indices, True)
        return self._keys.gather(1, indices[..., None].expand(-1, -1, self.head_size))

    def values(self, indices: "Tensor") -> "Tensor":
        """Values [G, m, D] float32 of the tokens `indices` [G, m]."""
        indices = row_numbers(indices, self.kv_heads, self.length, "cache.values")
        LEDGER.value_rows.scatter_(1, indices, True)
        return self._values.gather(1, indices[..., None].expand(-1, -1, self.head_size))

    def key_channels(self, channels: "Tensor") -> "Tensor":
        """Single channels [G, N, r] of all keys; channels [G, r] in 0 .. D - 1, each charged for all
        tokens.
        """
        channels = row_numbers(channels, self.kv_heads, self.head_size, "cache.key_channels")
        LEDGER.key_channels.scatter_(1, channels, True)
        return self._keys.gather(2, channels[:, None, :].expand(-1, self.length, -1))

    def scores(self, query: "Tensor", indices: "Tensor") -> "Tensor":
        """Scores `q.k / sqrt(D)` [H, m] of the tokens `indices` [G, m]; charges their keys."""
        return self._scores(query, self.keys(indices))

    def _scores(self, query: "Tensor", keys: "Tensor") -> "Tensor":
        grouped = query.view(self.kv_heads, -1, self.head_size)
        scores = (grouped @ keys.transpose(1, 2)).reshape(self.heads, -1)
        return scores / math.sqrt(self.head_size)


class OracleCache(Cache):
    """Gives all scores for free. Its policies are bounds: they show what a perfect index could do."""

    def scores(self, query: "Tensor", indices: "Tensor") -> "Tensor":
        """Scores [H, m] of the tokens `indices` [G, m], free of charge."""
        return self._scores(query, self._keys.gather(1, indices[..., None].expand(-1, -1, self.head_size)))


def state_bytes(state: object) -> int:
    """Bytes of what a policy keeps outside an Index: tensors in full, numbers and text at a flat rate."""
    if isinstance(state, Index):
        return 0
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, dict):
        return _total(state.keys()) + _total(state.values())
    if isinstance(state, list | tuple):
        return _total(state)
    if state is None or isinstance(state, bool | int | float | str):
        return BYTES_PER_NUMBER * (len(state) if isinstance(state, str) else 1)
    raise CandidateError(
        FailureKind.INTERFACE,
        f"A policy kept a {type(state).__name__} between calls; it may keep tensors, Index objects, numbers, "
        "strings, and lists, tuples or dictionaries of these.",
    )


def _total(items: Iterable[object]) -> int:
    return sum(state_bytes(item) for item in items)
