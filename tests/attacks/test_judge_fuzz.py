"""Whatever a process may send, the judge of `token_selection` answers it or says CandidateError, in time."""

import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluators.evaluation import CandidateError
from evaluators.token_selection.judge import open_judge
from evaluators.token_selection.problem import PROBLEM
from sandbox import wire

MOST_S = 2.0
MOST_BYTES = 80 << 20  # of one answer

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

extreme = st.sampled_from(
    [-(2**63), -(2**31), -1, 0, 1, 2, 63, 64, 991, 992, 993, 994, 1023, 2**31 - 1, 2**63 - 1]
)
integers = st.sampled_from([np.int8, np.int32, np.int64, np.uint8, np.uint64])
anything = arrays.arrays(
    dtype=st.sampled_from(sorted(wire.DTYPES)).map(np.dtype),
    shape=arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12),
)
numbers = st.builds(lambda dtype, value: np.array(value).astype(dtype), integers, extreme)
rows = st.builds(
    lambda heads, count, value, dtype: np.full((heads, count), value).astype(dtype),
    st.integers(0, 4),
    st.sampled_from([0, 1, 5, 10**5, 10**6]),
    extreme,
    integers,
)
questions = st.sampled_from(
    ["begin", "done", "prefill", "tokens", "keys", "scores", "values", "channels", "index", "append", "", "é"]
)
names = st.sampled_from(
    ["turn", "rows", "index", "counts", "indices", "probabilities", "shares", "0.tree", "0.0", "1.tree"]
) | st.text(max_size=5)
said = st.dictionaries(names, anything | numbers | rows, max_size=5)
asked = st.fixed_dictionaries(
    {},
    optional={"turn": numbers | st.just(np.array(0)), "rows": rows | anything, "index": numbers | anything},
)
leaves = st.recursive(
    st.builds(lambda v: {"plain": v}, st.none() | st.booleans() | st.integers() | st.floats() | st.text())
    | st.builds(
        lambda kind, name, dtype, shape: {kind: name, "dtype": dtype, "shape": shape},
        st.sampled_from(["tensor", "index", "kept"]),
        st.sampled_from(["0", "tree", 0, -1, None]),
        st.sampled_from(["uint8", "float32", "bfloat16", "bool", "object", 3]),
        st.lists(st.integers(-1, 4) | extreme, max_size=3) | st.none(),
    ),
    lambda inner: st.builds(
        lambda kind, items: {kind: items},
        st.sampled_from(["list", "tuple", "dict", "x"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)
trees = leaves.map(lambda node: np.frombuffer(json.dumps(node).encode(), np.uint8))


@pytest.fixture(scope="module")
def judge():
    return open_judge(**PROBLEM.inputs(None).arguments)


def tell(examination, question, sent):
    """One message, decoded as it comes from a process; whether the stage goes on."""
    began = time.monotonic()
    try:
        received = wire.decode_arrays(wire.encode_arrays(sent, 1 << 30))
        answer = examination.answer(question, received)
        size = sum(array.nbytes for array in answer.values())
        wire.encode_arrays(answer, 1 << 30)
    except CandidateError:
        return False
    finally:
        assert time.monotonic() - began < MOST_S
    assert size < MOST_BYTES
    return True


def begun(judge, stage, selecting):
    """An examination in the middle of its first phase, or of its second."""
    examination = judge.examine(stage, "source")
    assert examination.another_process()
    turns = examination.answer("begin", {})
    if selecting:
        stateless = np.frombuffer(b'{"dict": []}', np.uint8)
        done = {f"{turn}.tree": stateless for turn in range(int(turns["count"]))}
        examination.answer("done", done)
        examination.take({})
        assert examination.another_process()
        examination.answer("begin", {})
    return examination


@FUZZ
@given(
    messages=st.lists(st.tuples(questions, asked | said), max_size=5),
    stage=st.sampled_from(PROBLEM.stages[:3]),
    end=said,
)
def test_any_conversation_ends_in_answers_or_a_candidate_error(judge, messages, stage, end):
    examination = judge.examine(stage, "source")
    assert examination.another_process()
    if all(tell(examination, question, sent) for question, sent in messages):
        with pytest.raises(CandidateError):
            examination.take(end)


@FUZZ
@given(messages=st.lists(st.tuples(questions, asked), min_size=1, max_size=4), selecting=st.booleans())
def test_any_question_within_a_turn_is_answered_or_refused(judge, messages, selecting):
    examination = begun(judge, "search", selecting)
    for question, sent in messages:
        if not tell(examination, question, {"turn": np.array(0)} | sent):
            return


@FUZZ
@given(tree=trees, beside=anything | arrays.arrays(np.uint8, st.integers(0, 64)), shares=st.none() | anything)
def test_any_state_is_kept_or_refused_and_never_travels_unpaid(judge, tree, beside, shares):
    examination = begun(judge, "search", selecting=False)
    sent = {f"{turn}.{name}": array for turn in range(3) for name, array in (("tree", tree), ("0", beside))}
    if tell(examination, "done", sent | ({} if shares is None else {"shares": shares})):
        for kept in examination.states.values():
            travels = sum(array.nbytes for array in kept.tensors.values())
            assert travels <= kept.state_bytes
            assert len(json.loads(kept.tree)) == 1
            assert kept.tree.count("{") - 1 <= kept.state_bytes / 8


@FUZZ
@given(
    counts=arrays.arrays(
        np.int32,
        st.sampled_from([(12, 9), (12, 1), (3, 9)]),
        elements=st.sampled_from([-1, 0, 1, 2, 2**31 - 1]),
    )
    | st.just(np.ones((12, 9), np.int32)),
    indices=arrays.arrays(np.int32, st.just(108), elements=st.integers(-1, 1025)) | anything,
    probabilities=arrays.arrays(np.float32, st.just(108), elements=st.floats(width=32)) | anything,
)
def test_any_selection_is_scored_by_true_figures_or_refused(judge, counts, indices, probabilities):
    examination = begun(judge, "search", selecting=True)
    for step in range(2):
        sent = {"counts": counts, "indices": indices, "probabilities": probabilities}
        stateless = np.frombuffer(b'{"dict": []}', np.uint8)
        if not tell(examination, "done", sent | {f"{turn}.tree": stateless for turn in range(12)}):
            return
        examination.take({})
        assert examination.another_process() == (step == 0 or bool((probabilities < 1).any()))
        if step == 0:
            examination.answer("begin", {})
    if not (probabilities < 1).any():
        value = examination.value()
        assert np.isfinite(value["score"])
        assert all(0 <= value["metrics"][f"traffic@{budget}%"] <= 1 for budget in (2.5, 5.0, 10.0, 20.0))
