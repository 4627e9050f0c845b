"""The plain values that cross between candidate and evaluator, as bytes.

Types are kept exactly: a tuple stays a tuple, a numpy float stays one. Whatever has behaviour of its own
(objects, functions, subclasses of numbers, generators) does not cross, so that no candidate can hand over a
number that compares as it likes. Decoding trusts nothing.
"""

import struct
import sys
from collections.abc import Callable
from typing import Any

import msgpack

DEPTH = 100
KINDS = "biufcSUmM"  # of numpy dtypes
PLAIN = (type(None), bool, float, str, bytes)
SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "z": frozenset,
}
TAGS = {list: "l", tuple: "t", set: "s", frozenset: "z"}
COMPLEX = struct.Struct("<dd")


class NotPlainError(TypeError):
    """A value that cannot cross; the message says what it is."""


class MalformedError(ValueError):
    """Bytes that are no plain value."""


def encode(value: Any) -> bytes:
    """The bytes of a plain value. Raises NotPlainError for any other."""
    try:
        return bytes(msgpack.packb(_tagged(value, 0), use_bin_type=True))
    except UnicodeEncodeError as error:
        raise NotPlainError(f"a string that is no valid text ({error.reason})") from error


def decode(message: bytes | bytearray | memoryview) -> Any:
    """The value of bytes that `encode` made. Raises MalformedError for any others."""
    try:
        return _plain(msgpack.unpackb(message, raw=False, strict_map_key=True, use_list=True))
    except MalformedError:
        raise
    except Exception as error:  # whatever hostile bytes bring about in msgpack or numpy
        raise MalformedError(f"malformed value: {error}") from error


def _tagged(value: Any, depth: int) -> Any:
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 63 else ["i", str(value)]
    if depth > DEPTH:
        raise NotPlainError("a value nested too deep, perhaps in itself")
    if tag := TAGS.get(kind):
        items = sorted(value, key=repr) if tag in "sz" else value
        return [tag, *(_tagged(item, depth + 1) for item in items)]
    if kind is dict:
        return ["d", *(_tagged(part, depth + 1) for item in value.items() for part in item)]
    if kind is complex:
        return ["c", COMPLEX.pack(value.real, value.imag)]
    if "numpy" in sys.modules and (found := _numpy(value)) is not None:
        return found
    raise NotPlainError(f"a value of type {kind.__name__}")


def _numpy(value: Any) -> Any:
    import numpy as np

    if isinstance(value, np.generic):
        if value.dtype.kind in KINDS:
            return ["n", value.dtype.str, value.tobytes()]
        raise NotPlainError(f"a numpy value of type {value.dtype}")
    if type(value) is np.ndarray:
        if value.dtype.kind in KINDS:
            return ["a", value.dtype.str, list(value.shape), value.tobytes()]
        raise NotPlainError(f"a numpy array of type {value.dtype}")
    return None


def _plain(tagged: Any) -> Any:
    if not isinstance(tagged, list):
        if type(tagged) in PLAIN or type(tagged) is int:
            return tagged
        raise MalformedError("neither a plain value nor a tagged one")
    if not tagged:
        raise MalformedError("an empty value")
    tag, rest = tagged[0], tagged[1:]
    if make := SEQUENCES.get(tag):
        return make([_plain(item) for item in rest])
    if tag == "d" and len(rest) % 2 == 0:
        parts = [_plain(item) for item in rest]
        return dict(zip(parts[::2], parts[1::2], strict=True))
    if tag == "i" and len(rest) == 1 and isinstance(rest[0], str):
        return int(rest[0])
    if tag == "c":
        return complex(*COMPLEX.unpack(rest[0]))
    if tag in ("n", "a"):
        import numpy as np

        dtype = np.dtype(str(rest[0]))
        if dtype.kind not in KINDS:
            raise MalformedError(f"the dtype {dtype} is not allowed")
        if tag == "n":
            (scalar,) = np.frombuffer(rest[1], dtype)
            return scalar
        return np.frombuffer(rest[2], dtype).reshape(rest[1]).copy()
    raise MalformedError(f"an unknown tag {tag!r}")


def shown(value: Any) -> str:
    """The `repr` of a plain value with arrays as nested lists, and floats in full."""
    return repr(_listed(value))


def _listed(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return _listed(value.tolist())
    if isinstance(value, dict):
        return {_listed(key): _listed(item) for key, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_listed(item) for item in value)
    return value
