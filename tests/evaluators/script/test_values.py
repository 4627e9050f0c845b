"""Plain values cross as they are; nothing else does, and hostile bytes are refused."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluators.script.values import MalformedError, NotPlainError, decode, encode, shown

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = st.text() | st.integers() | st.tuples(st.integers(), st.text())
values = st.recursive(
    leaves | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner),
)


@given(values)
def test_plain_values_come_back_equal_and_of_the_same_type(value):
    back = decode(encode(value))
    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "uint64", "bool", "complex128", "U3", ">f8"])
def test_arrays_come_back_with_their_dtype_and_shape(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    back = decode(encode({"a": (array, array[0, 1])}))["a"]
    assert back[0].dtype == array.dtype
    assert np.array_equal(back[0], array)
    assert type(back[1]) is type(array[0, 1])
    assert back[1] == array[0, 1]


class Rubber(float):
    def __sub__(self, other):
        return 0.0


class Shelf(dict):
    pass


@pytest.mark.parametrize(
    "value",
    [Rubber(1.0), Shelf(), len, object(), iter([]), np.array([object()]), type, [1, (2, {3: lambda: 0})]],
)
def test_whatever_has_behaviour_of_its_own_does_not_cross(value):
    with pytest.raises(NotPlainError):
        encode(value)


def test_a_value_within_itself_does_not_cross():
    endless: list = []
    endless.append(endless)
    with pytest.raises(NotPlainError):
        encode(endless)


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_plain(message):
    with contextlib.suppress(MalformedError):
        encode(decode(message))


@pytest.mark.parametrize(
    "tagged",
    [
        ["x"],
        [],
        ["a", "O", [1], b"12345678"],
        ["a", "f8", [2, 3], b""],
        ["d", 1],
        ["i", "9" * 5000],
        ["n", "f8", b""],
    ],
)
def test_forged_values_are_refused(tagged):
    import msgpack

    with pytest.raises(MalformedError):
        decode(msgpack.packb(tagged))


def test_values_are_shown_in_full_with_arrays_as_lists():
    value = (np.array([[0.1, 1 / 3]]), {"k": np.float64(0.1 + 0.2)}, 5)
    assert shown(value) == "([[0.1, 0.3333333333333333]], {'k': 0.30000000000000004}, 5)"
