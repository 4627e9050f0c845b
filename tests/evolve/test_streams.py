from hypothesis import given
from hypothesis import strategies as st

from evolve.streams import stream

KEYS = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**40), st.sampled_from(["parents", "proposal"]))


@given(KEYS)
def test_a_stream_depends_on_its_key_alone(key):
    stream(1, 2, "other").random(5)
    assert (stream(*key).random(4) == stream(*key).random(4)).all()


@given(KEYS, KEYS)
def test_different_keys_have_different_streams(first, second):
    assert (first == second) == bool((stream(*first).random(4) == stream(*second).random(4)).all())
