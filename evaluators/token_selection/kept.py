"""A policy's state as the judge keeps it between processes: checked, measured, and never interpreted.

What a process sends may have been written by a candidate: every node of the tree is rebuilt from its checked
parts, so that nothing travels on that was not counted.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

BYTES_PER_NUMBER = 8  # a character's worth of state, and the least that any part of it costs
MOST_DIMENSIONS, LONGEST = 8, 1 << 40
MOST_TREE_BYTES = 1 << 20
ITEMSIZES = {
    **dict.fromkeys(("bool", "int8", "uint8"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64"), 8),
}


@dataclass(frozen=True)
class KeptRows:
    """The rows of one Index, as bytes."""

    rows: "NDArray[np.uint8]"  # [G, R, bytes per row]
    dtype: str
    row_shape: tuple[int, ...]

    @property
    def shape(self) -> list[int]:
        return [*self.rows.shape[:2], *self.row_shape]


@dataclass
class Kept:
    """The state of one policy: what it costs to read at every step, and the rows that are read on demand."""

    tree: str
    tensors: dict[str, "NDArray[np.uint8]"]
    indices: list[KeptRows]
    state_bytes: int
    new_bytes: int = 0  # of the indices that its last step has made

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """What the next process is sent, named with `prefix`: everything but the rows."""
        sent = {f"{prefix}tree": np.frombuffer(self.tree.encode(), np.uint8)}
        return sent | {prefix + name: tensor for name, tensor in self.tensors.items()}


def receive(arrays: Mapping[str, np.ndarray], prefix: str, before: list[KeptRows], most_bytes: int) -> Kept:
    """The state that a process has sent in arrays named with `prefix`; `before` are the indices that it had.

    Raises CandidateError for what is no state, or more than `most_bytes` of it.
    """
    raw = arrays.get(f"{prefix}tree")
    if raw is None or raw.dtype != np.uint8 or raw.nbytes > MOST_TREE_BYTES:
        raise _malformed()
    try:
        tree = json.loads(bytes(raw))
    except (ValueError, RecursionError) as error:
        raise _malformed() from error
    kept = Kept("", {}, [], 0)
    found = _Found(arrays, prefix, before)
    try:
        kept.tree = json.dumps(_node(tree, found, kept))
        kept.state_bytes -= BYTES_PER_NUMBER  # of the root, which a policy without state has, too
    except RecursionError as error:
        raise _malformed() from error
    if kept.state_bytes + sum(index.rows.nbytes for index in kept.indices) > most_bytes:
        raise CandidateError(
            FailureKind.MEMORY,
            f"The policy keeps more than {most_bytes:,} bytes for one layer, which is eight times the cache.",
        )
    return kept


@dataclass(frozen=True)
class _Found:
    """What came with a tree: arrays named with `prefix`, and the indices that the process was given."""

    arrays: Mapping[str, np.ndarray]
    prefix: str
    before: list[KeptRows]

    def raw(self, name: str, dtype: str, shape: list[Any]) -> "NDArray[np.uint8]":
        raw = self.arrays.get(self.prefix + name)
        fits = len(shape) <= MOST_DIMENSIONS and dtype in ITEMSIZES
        fits = fits and all(type(length) is int and 0 <= length <= LONGEST for length in shape)
        if raw is None or raw.dtype != np.uint8 or not fits:
            raise _malformed()
        if raw.nbytes != math.prod(shape) * ITEMSIZES[dtype]:
            raise _malformed()
        return raw


def _node(node: object, found: _Found, kept: Kept) -> Any:
    """A checked copy of one node; what it holds is added to `kept`.

    Nothing is free: lists of empty lists, and lengths of empty tensors, could hold all that was seen.
    """
    match node:
        case {"plain": value, **rest} if not rest and (
            value is None or isinstance(value, bool | int | float | str)
        ):
            kept.state_bytes += _plain_bytes(value)
            return {"plain": value}
        case {"dict": list(items), **rest} if not rest and all(
            isinstance(i, list) and len(i) == 2 for i in items
        ):
            kept.state_bytes += BYTES_PER_NUMBER
            return {"dict": [[_node(part, found, kept) for part in item] for item in items]}
        case {"list": list(items), **rest} if not rest:
            kept.state_bytes += BYTES_PER_NUMBER
            return {"list": [_node(item, found, kept) for item in items]}
        case {"tuple": list(items), **rest} if not rest:
            kept.state_bytes += BYTES_PER_NUMBER
            return {"tuple": [_node(item, found, kept) for item in items]}
        case {"tensor": str(name), "dtype": str(dtype), "shape": list(shape), **rest} if not rest:
            own = str(len(kept.tensors))
            kept.tensors[own] = found.raw(name, dtype, shape).reshape(-1)
            kept.state_bytes += max(kept.tensors[own].nbytes, BYTES_PER_NUMBER * max(1, len(shape)))
            return {"tensor": own, "dtype": dtype, "shape": shape}
        case {"index": str(name), "dtype": str(dtype), "shape": list(shape), **rest} if not rest:
            raw = found.raw(name, dtype, shape)
            if len(shape) < 2 or not raw.size:
                raise _malformed()
            kept.new_bytes += raw.nbytes
            rows = KeptRows(raw.reshape(shape[0], shape[1], -1), dtype, tuple(shape[2:]))
            return _index(rows, kept)
        case {"kept": int(number), **rest} if not rest and 0 <= number < len(found.before):
            return _index(found.before[number], kept)
    raise _malformed()


def _index(rows: KeptRows, kept: Kept) -> dict[str, Any]:
    kept.indices.append(rows)
    kept.state_bytes += BYTES_PER_NUMBER
    return {"kept": len(kept.indices) - 1, "dtype": rows.dtype, "shape": rows.shape}


def _plain_bytes(value: object) -> int:
    """A flat rate for numbers; text by the character, and whole numbers beyond 64 bits by their size."""
    if isinstance(value, str):
        return BYTES_PER_NUMBER * max(1, len(value))
    if isinstance(value, int):
        return max(BYTES_PER_NUMBER, math.ceil(value.bit_length() / 8))
    return BYTES_PER_NUMBER


def _malformed() -> CandidateError:
    return CandidateError(FailureKind.INVALID_OUTPUT, "The policy's state is malformed.")
