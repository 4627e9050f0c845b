import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluators.token_selection.actor import _capped
from evaluators.token_selection.metering import Index
from evaluators.token_selection.state import pack, restore


class Kept:
    pass


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12), st.floats(1.0, 40.0))
def test_layer_shares_have_mean_one_and_respect_the_cap(shares, cap):
    capped = _capped(shares, cap)
    assert sum(capped) / len(capped) == pytest.approx(1, rel=1e-6)
    assert max(capped) <= cap * (1 + 1e-9)


def test_layer_shares_within_the_cap_keep_their_proportions():
    assert _capped([1.0, 3.0], 10.0) == pytest.approx([0.5, 1.5])


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
    assert vars(restore(Kept, pack(state, "x."), "x.")) == state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int16, torch.bool])
def test_tensors_and_indices_survive_the_way_to_another_process(dtype):
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    restored = restore(Kept, pack({"t": tensor, "i": [Index(tensor)]}, "x."), "x.")
    assert torch.equal(restored.t, tensor)
    assert restored.t.dtype == dtype
    assert torch.equal(restored.i[0].read(), tensor)
