"""Frames between processes: a length, then msgpack. Arrays travel as (dtype, shape, bytes).

Nothing is unpickled. Whatever comes from a candidate's process is decoded with `decode_arrays`, which trusts
no length, name, dtype or shape.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgpack

if TYPE_CHECKING:
    import numpy as np

HEADER = struct.Struct(">Q")
DTYPES = frozenset(
    {
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    }
)
MAX_ARRAYS = 65_536
MAX_DIMENSIONS = 8
MAX_NAME = 200
READ_BYTES = 1 << 20  # at a time: a header may promise what never comes


class WireError(ValueError):
    """Bytes that are not what they claim to be."""


def pack(value: Any) -> bytes:
    """One message of plain values as msgpack bytes. Raises TypeError for anything that is not plain."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(message: bytes | bytearray | memoryview) -> Any:
    """The plain values of one message. Raises WireError for malformed bytes."""
    try:
        return msgpack.unpackb(
            message, raw=False, strict_map_key=True, use_list=True, ext_hook=_refuse_extension
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"malformed message: {error}") from error


def _refuse_extension(code: int, _payload: bytes) -> Any:
    raise WireError(f"extension type {code} is not allowed")


def frame(message: bytes) -> bytes:
    return HEADER.pack(len(message)) + message


def write_frame(descriptor: int, *parts: bytes) -> None:
    """Writes the parts of one message as one frame. Raises BrokenPipeError when nobody reads."""
    rest = [memoryview(part) for part in (HEADER.pack(sum(map(len, parts))), *parts)]
    while rest:
        written = os.writev(descriptor, rest)
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][written:]


def read_frame(descriptor: int, limit: int) -> bytes | None:
    """One frame's message, or None at the end of the stream.

    Raises WireError when the stream ends inside a frame, or when a frame announces more than `limit` bytes.
    """
    header = _read_exactly(descriptor, HEADER.size)
    if not header:
        return None
    if len(header) < HEADER.size:
        raise WireError("the stream ended inside a header")
    (size,) = HEADER.unpack(header)
    if size > limit:
        raise WireError(f"a frame of {size:,} bytes; at most {limit:,} are allowed")
    message = _read_exactly(descriptor, size)
    if len(message) < size:
        raise WireError("the stream ended inside a frame")
    return bytes(message)


def _read_exactly(descriptor: int, size: int) -> bytearray:
    read = bytearray(size)
    rest = memoryview(read)
    while rest and (count := os.readv(descriptor, [rest[:READ_BYTES]])):
        rest = rest[count:]
    return read[: size - len(rest)]


@functools.cache
def _dtypes() -> dict[str, np.dtype[Any]]:
    """What arrays may be made of, by name; little-endian."""
    import numpy as np

    return {name: np.dtype(name).newbyteorder("<") for name in DTYPES}


@functools.cache
def _little_endian() -> dict[str, str]:
    """The same, from numpy's short form to the name."""
    return {dtype.str: name for name, dtype in _dtypes().items()}


def encode_arrays(arrays: Mapping[str, np.ndarray], limit_bytes: int) -> bytes:
    """The message of named arrays.

    Raises WireError for arrays that `decode_arrays` would refuse, or that hold more than `limit_bytes`
    together.
    """
    import numpy as np

    little = _little_endian()
    if not isinstance(arrays, Mapping):
        raise WireError(f"expected named arrays, got {type(arrays).__name__}")
    plain: dict[str, list[Any]] = {}
    size = 0
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise WireError(f"{name!r} is {type(array).__name__}; expected a numpy array")
        dtype = array.dtype.newbyteorder("<").str
        if dtype not in little:
            raise WireError(f"{name!r} has dtype {array.dtype.name}; allowed: {', '.join(sorted(DTYPES))}")
        size += array.nbytes
        if size > limit_bytes:
            raise WireError(f"results of {size:,} bytes or more; at most {limit_bytes:,} are allowed")
        native = array if array.dtype.isnative else array.astype(dtype)
        plain[name] = [little[dtype], array.shape, native.tobytes()]
    return pack(plain)


def decode_arrays(message: bytes | bytearray | memoryview) -> dict[str, np.ndarray]:
    """Named read-only arrays out of an untrusted message. Raises WireError for a malformed one.

    The message is taken apart piece by piece: as a whole, a byte of it could become an empty list of 64
    bytes.
    """
    rest = msgpack.Unpacker(
        raw=False, max_array_len=0, max_map_len=0, ext_hook=_refuse_extension, max_buffer_size=len(message)
    )
    try:
        rest.feed(message)
        count = rest.read_map_header()
        if count > MAX_ARRAYS:
            raise WireError(f"expected at most {MAX_ARRAYS} named arrays")
        arrays = dict(_decode_array(rest) for _ in range(count))
        if rest.tell() != len(message):
            raise WireError("malformed message: it goes on behind its arrays")
    except WireError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"malformed message: {error}") from error
    return arrays


def _decode_array(rest: msgpack.Unpacker) -> tuple[str, np.ndarray]:
    """The next name, and its array as (dtype, shape, bytes)."""
    import numpy as np

    dtypes = _dtypes()
    name = rest.unpack()
    if not isinstance(name, str) or len(name) > MAX_NAME:
        raise WireError(f"an array's name is a string of at most {MAX_NAME} characters")
    if rest.read_array_header() != 3:
        raise WireError(f"{name!r} is not (dtype, shape, bytes)")
    dtype = rest.unpack()
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise WireError(f"{name!r} has a dtype that is not allowed")
    dimensions = rest.read_array_header()
    if dimensions > MAX_DIMENSIONS:
        raise WireError(f"{name!r} has no shape of at most {MAX_DIMENSIONS} dimensions")
    shape = [rest.unpack() for _ in range(dimensions)]
    raw = rest.unpack()
    if not isinstance(raw, bytes):
        raise WireError(f"{name!r} holds no bytes")
    expected = dtypes[dtype].itemsize
    for length in shape:
        if type(length) is not int or not 0 <= length <= 1 << 40:  # bool is an int, and not a length
            raise WireError(f"{name!r} has a length that is not allowed")
        expected *= length
    if expected != len(raw):
        raise WireError(f"{name!r} announces {expected:,} bytes and holds {len(raw):,}")
    if dtype == "bool" and raw.strip(b"\0\1"):
        raise WireError(f"{name!r} holds booleans that are neither 0 nor 1")
    try:
        return name, np.frombuffer(raw, dtype=dtypes[dtype]).reshape(shape)
    except ValueError as error:  # a product of zero hides lengths that numpy cannot hold
        raise WireError(f"{name!r} has a shape that is not allowed") from error
