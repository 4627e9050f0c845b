import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.evaluation import CandidateError
from evaluators.token_selection.cache import Index, Link
from evaluators.token_selection.kept import receive
from evaluators.token_selection.state import pack, restore
from evaluators.token_selection.turns import capped


class Policy:
    pass


def sent(state, most_bytes=1 << 20):
    """What the judge keeps of a state."""
    return receive(pack(state, "0."), "0.", [], most_bytes)


def restored(kept):
    return restore(Policy, kept.arrays("3."), "3.", Link(None))


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.floats(1.0, 40.0))
def test_layer_shares_have_mean_one_and_respect_the_cap(shares, cap):
    found = capped(shares, cap)
    assert sum(found) / len(found) == pytest.approx(1, rel=1e-6)
    assert max(found) <= cap * (1 + 1e-9)


def test_layer_shares_within_the_cap_keep_their_proportions():
    assert capped([1.0, 3.0], 10.0) == pytest.approx([0.5, 1.5])


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
            max_leaves=5,
        ),
        max_size=4,
    )
)
def test_plain_state_survives_the_way_to_another_process(state):
    assert vars(restored(sent(state))) == state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int16, torch.bool])
def test_tensors_survive_the_way_to_another_process_and_indices_stay_with_the_judge(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    kept = sent({"t": tensor, "i": [Index(tensor)]})
    policy = restored(kept)
    assert torch.equal(policy.t, tensor)
    assert policy.t.dtype == policy.i[0].dtype == dtype
    assert policy.i[0].shape == (2, 3)
    assert len(kept.arrays("")) == 2  # the tree and the tensor
    assert bytes(kept.indices[0].rows) == bytes(tensor.view(torch.uint8).numpy())


def test_state_is_charged_in_full_and_an_index_is_not():
    state = {
        "a": torch.zeros(3, dtype=torch.float16),
        "b": [1, 2.0],
        "c": Index(torch.zeros(1, 9)),
        "d": None,
    }
    names, numbers, containers = 4 * 8, 3 * 8, 2 * 8  # of one letter; two and None; the list and the Index
    tensor = 8  # six bytes: no part costs less than a number
    assert sent(state).state_bytes == names + numbers + containers + tensor


def test_a_whole_number_costs_what_it_holds():
    name = 8
    assert sent({"n": 2**64}).state_bytes == name + 9
    assert sent({"n": 2**8000}).state_bytes == name + 1001


def test_state_has_a_limit():
    with pytest.raises(CandidateError, match="keeps more than 1,000 bytes"):
        sent({"a": torch.zeros(100), "b": Index(torch.zeros(2, 100))}, most_bytes=1_000)


@pytest.mark.parametrize("state", [lambda: 0, {1, 2}, iter([])])
def test_state_that_cannot_be_counted_is_refused(state):
    with pytest.raises(CandidateError, match="between calls"):
        pack({"kept": state}, "0.")


TREES = {
    "no tree": b"x",
    "an unknown node": b'{"secret": 1}',
    "a node with more than it needs": b'{"plain": 1, "more": "hidden"}',
    "an index that was never given": b'{"kept": 0}',
    "a tensor that is not there": b'{"tensor": "0", "dtype": "int8", "shape": [1]}',
    "a tensor of another size": b'{"tensor": "t", "dtype": "int8", "shape": [5]}',
    "a negative length": b'{"tensor": "t", "dtype": "int8", "shape": [-2, -2]}',
    "an unknown dtype": b'{"tensor": "t", "dtype": "object", "shape": [4]}',
    "an index of one axis": b'{"index": "t", "dtype": "int8", "shape": [4]}',
    "a pair of three": b'{"dict": [[{"plain": 1}, {"plain": 1}, {"plain": 1}]]}',
    "a tree without end": b'{"list": [' * 100_000,
    "a deep tree": b'{"list": [' * 5_000 + b"]}" * 5_000,
}


@pytest.mark.parametrize("name", TREES)
def test_state_that_a_candidate_wrote_itself_is_checked(name):
    arrays = {"0.tree": np.frombuffer(TREES[name], np.uint8), "0.t": np.zeros(4, np.uint8)}
    with pytest.raises(CandidateError, match="malformed"):
        receive(arrays, "0.", [], 1 << 20)
