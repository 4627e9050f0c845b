"""What a policy reads in one decode step is handed out and counted here, outside the sandbox."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.token_selection.kept import Kept, KeptRows
from evaluators.token_selection.workloads import BYTES_PER_CHANNEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from evaluators.token_selection.workloads import Layer

MOST_BYTES = 64 << 20  # of one answer, and of one index


class Meter:
    """Bytes read in one decode step of one layer. Each row counts once per step and KV head."""

    def __init__(self, layer: "Layer", length: int, kept: Kept, appended: int, oracle: bool) -> None:
        """A step over `length` tokens, of which `appended` are new since the policy's last step."""
        self.keys, self.values = layer.keys[:, :length], layer.values[:, :length]  # [G, N, D] fp16
        self.indices = list(kept.indices)
        self.appended = appended
        self.oracle = oracle
        kv_heads, _, size = self.keys.shape
        self.heads = np.arange(kv_heads)[:, None]
        self.key_rows = np.zeros((kv_heads, length), bool)
        self.value_rows = np.zeros((kv_heads, length), bool)
        self.key_channels = np.zeros((kv_heads, size), bool)
        self.index_rows: dict[int, NDArray[np.bool_]] = {}
        self.state_bytes = kept.state_bytes
        self.written_bytes = 0

    @property
    def row_bytes(self) -> int:
        """Bytes of one key or one value of one KV head."""
        return int(self.keys.shape[2]) * BYTES_PER_CHANNEL

    def index_bytes(self) -> int:
        """Bytes read to decide that are neither keys nor values: index rows, kept state, single key
        channels; and what is written for later steps, per new token.
        """
        rows = sum(
            int(np.count_nonzero(mask)) * int(self.indices[number].rows.shape[2])
            for number, mask in self.index_rows.items()
        )
        channels = int(np.count_nonzero(self.key_channels)) * int(self.keys.shape[1]) * BYTES_PER_CHANNEL
        written = -(-self.written_bytes // self.appended)
        return rows + channels + self.state_bytes + written

    def spent(self) -> int:
        """All bytes read so far in this step."""
        rows = np.count_nonzero(self.key_rows) + np.count_nonzero(self.value_rows)
        return int(rows) * self.row_bytes + self.index_bytes()

    def beyond(self, head: "NDArray[np.int64]", indices: "NDArray[np.int32]", heads: int) -> int:
        """Bytes read besides the keys and values of what was selected: token indices[k] by query head
        head[k], of `heads` query heads.
        """
        unused = 0
        if self.key_rows.any() or self.value_rows.any():
            selected = np.zeros_like(self.key_rows)
            selected[head // (heads // len(selected)), indices] = True
            unused += int(np.count_nonzero(self.key_rows & ~selected))
            unused += int(np.count_nonzero(self.value_rows & ~selected))
        return unused * self.row_bytes + self.index_bytes()

    def answer(self, question: str, asked: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The rows that a question asks for, and what the step has cost with them.

        Raises CandidateError for a question that has no answer.
        """
        found: NDArray[Any]
        match question:
            case "keys" | "scores":
                rows = self._rows(asked, self.keys.shape[1], self.row_bytes)
                if question == "keys" or not self.oracle:
                    self.key_rows[self.heads, rows] = True
                found = self.keys[self.heads, rows]
            case "values":
                rows = self._rows(asked, self.keys.shape[1], self.row_bytes)
                if not self.oracle:
                    self.value_rows[self.heads, rows] = True
                found = self.values[self.heads, rows]
            case "channels":
                rows = self._rows(asked, self.keys.shape[2], self.keys.shape[1] * BYTES_PER_CHANNEL)
                self.key_channels[self.heads, rows] = True
                found = np.stack([keys.take(row, axis=1) for keys, row in zip(self.keys, rows, strict=True)])
            case "index":
                found = self._read_index(asked)
            case "append":
                found = self._append_rows(asked)
            case _:
                raise _misled()
        return {"rows": found, "spent": np.array(self.spent(), np.int64)}

    def _read_index(self, asked: Mapping[str, np.ndarray]) -> "NDArray[np.uint8]":
        number, index = self._index(asked)
        heads, length, _ = index.rows.shape
        mask = self.index_rows.setdefault(number, np.zeros((heads, length), bool))
        if mask.shape[1] < length:  # it has grown in this step
            mask = self.index_rows[number] = np.pad(mask, ((0, 0), (0, length - mask.shape[1])))
        if "rows" not in asked:
            mask[:] = True
            return index.rows
        rows = self._rows(asked, length, index.rows.shape[2], heads)
        each = np.arange(heads)[:, None]
        mask[each, rows] = True
        return index.rows[each, rows]

    def _append_rows(self, asked: Mapping[str, np.ndarray]) -> "NDArray[np.uint8]":
        number, index = self._index(asked)
        heads, _, row_bytes = index.rows.shape
        rows = asked.get("rows")
        if rows is None or rows.dtype != np.uint8 or rows.ndim != 3:
            raise _misled()
        if rows.shape[0] != heads or (rows.shape[1] and rows.shape[2] != row_bytes):
            raise _misled()
        if index.rows.nbytes + rows.nbytes > MOST_BYTES:
            raise _too_much()
        if rows.shape[1]:
            self.written_bytes += rows.nbytes
            self.indices[number] = KeptRows(
                np.concatenate([index.rows, rows], axis=1), index.dtype, index.row_shape
            )
        return np.zeros((0,), np.uint8)

    def _index(self, asked: Mapping[str, np.ndarray]) -> tuple[int, KeptRows]:
        number = asked.get("index")
        if number is None or number.shape != () or number.dtype.kind not in "iu":
            raise _misled()
        if not 0 <= int(number) < len(self.indices):
            raise _misled()
        return int(number), self.indices[int(number)]

    def _rows(
        self, asked: Mapping[str, np.ndarray], length: int, row_bytes: int, heads: int | None = None
    ) -> "NDArray[np.int32]":
        """The row numbers [G, r] of a question, each from 0 to length - 1; rows may repeat."""
        rows = asked.get("rows")
        heads = len(self.heads) if heads is None else heads
        if rows is None or rows.dtype != np.int32 or rows.ndim != 2 or rows.shape[0] != heads:
            raise _misled()
        if rows.size and (rows.min() < 0 or rows.max() >= length):
            raise _misled()
        if rows.size * row_bytes > MOST_BYTES:
            raise _too_much()
        return rows


def _misled() -> CandidateError:
    return CandidateError(
        FailureKind.INVALID_OUTPUT, "The judge was asked something that it does not answer."
    )


def _too_much() -> CandidateError:
    return CandidateError(
        FailureKind.MEMORY, f"One read or one index would be of more than {MOST_BYTES >> 20} MiB."
    )
