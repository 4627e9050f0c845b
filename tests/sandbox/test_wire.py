import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sandbox.wire import DTYPES, WireError, decode_arrays, encode_arrays, pack, read_frame, write_frame

LIMIT = 1 << 20
anything = arrays.arrays(
    dtype=st.sampled_from(sorted(DTYPES)).map(np.dtype),
    shape=arrays.array_shapes(min_dims=0, max_dims=4, min_side=0),
)


@given(st.dictionaries(st.text(max_size=20), anything, max_size=4))
def test_arrays_come_back_bit_for_bit(sent):
    received = decode_arrays(encode_arrays(sent, LIMIT))
    assert received.keys() == sent.keys()
    for name, array in sent.items():
        assert received[name].dtype == array.dtype
        assert received[name].shape == array.shape
        assert received[name].tobytes() == array.tobytes()


@given(st.binary(max_size=200))
def test_any_bytes_are_arrays_or_a_wire_error(message):
    try:
        decoded = decode_arrays(message)
    except WireError:
        return
    assert all(isinstance(array, np.ndarray) for array in decoded.values())


MALFORMED = {
    "no mapping": [1],
    "a name that is no string": {b"a": ["int8", [1], b"1"]},
    "a name without end": {"a" * 1000: ["int8", [1], b"1"]},
    "no triple": {"a": ["int8", [1]]},
    "an object dtype": {"a": ["object", [1], b"12345678"]},
    "a structured dtype": {"a": ["i4,O", [1], b"1234"]},
    "fewer bytes than announced": {"a": ["float64", [1 << 40], b"12345678"]},
    "more bytes than announced": {"a": ["float64", [0], b"12345678"]},
    "a negative length": {"a": ["int8", [-1, -1], b"1"]},
    "a length that is no integer": {"a": ["int8", [1.0], b"1"]},
    "a length that is a boolean": {"a": ["int8", [True], b"1"]},
    "too many dimensions": {"a": ["int8", [1] * 40, b"1"]},
    "lengths that only a zero hides": {"a": ["int8", [0] + [1 << 40] * 7, b""]},
    "text instead of bytes": {"a": ["int8", [1], "1"]},
    "a boolean that is two": {"a": ["bool", [1], b"\x02"]},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_arrays_are_refused(name):
    with pytest.raises(WireError):
        decode_arrays(pack(MALFORMED[name]))


def test_extension_types_are_refused():
    with pytest.raises(WireError, match="extension type 42"):
        decode_arrays(b"\x81\xd4\x2a\x00")


def test_deep_nesting_is_refused():
    with pytest.raises(WireError):
        decode_arrays(b"\x91" * 100_000)


def test_decoded_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        decode_arrays(encode_arrays({"a": np.ones(1)}, LIMIT))["a"][0] = 2


@pytest.mark.parametrize(
    "value", [[1, 2], {"a": [1, 2]}, {"a": np.array([object()])}, {"a": np.array(["text"])}]
)
def test_only_named_plain_arrays_are_encoded(value):
    with pytest.raises(WireError):
        encode_arrays(value, LIMIT)


def test_frame_is_read_back_and_the_end_is_none():
    reader, writer = os.pipe()
    write_frame(writer, b"hello")
    os.close(writer)
    assert read_frame(reader, 10) == b"hello"
    assert read_frame(reader, 10) is None
    os.close(reader)


@pytest.mark.parametrize("sent", [b"\0\0\0", b"\0" * 7 + b"\5" + b"ab", b"\xff" * 8])
def test_broken_or_oversized_frame_is_refused(sent):
    reader, writer = os.pipe()
    os.write(writer, sent)
    os.close(writer)
    with pytest.raises(WireError):
        read_frame(reader, 1 << 20)
    os.close(reader)


def test_arrays_beyond_the_limit_are_not_encoded():
    with pytest.raises(WireError, match="at most 100"):
        encode_arrays({"a": np.ones(8), "b": np.ones(8)}, 100)
