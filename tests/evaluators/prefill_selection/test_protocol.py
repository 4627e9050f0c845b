"""Whatever a process may send, the judge answers it or says CandidateError; and figures stay its own."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from evaluators.evaluation import CandidateError
from sandbox import wire

FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADS, END, MOST_BYTES = 9, 248, 80 << 20

numbers = st.sampled_from([-(2**31), -1, 0, 1, 63, 64, 183, 247, 248, 2**31 - 1])
integers = st.sampled_from([np.int32, np.int64, np.uint8, np.uint64])
anything = arrays.arrays(
    dtype=st.sampled_from(sorted(wire.DTYPES)).map(np.dtype),
    shape=arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=10),
)
filled = st.builds(
    lambda shape, number, dtype: np.full(shape, number).astype(dtype),
    st.sampled_from([(), (1,), (64,), (65,), (HEADS, 5), (HEADS, END), (HEADS, 10**5), (2, 3)]),
    numbers,
    integers,
)
fitting = st.builds(lambda share: np.full((HEADS, END), share), st.booleans())
questions = st.sampled_from(["begin", "next", "chosen", "scores", "means", "compute", "done", "", "é"])
names = st.sampled_from(["rows", "columns", "size", "drew"]) | st.text(max_size=4)
said = st.dictionaries(names, anything | filled | fitting, max_size=4)


def tell(examination, question, sent):
    """One message, decoded as it comes from a process; None where it is refused."""
    try:
        answer = examination.answer(question, wire.decode_arrays(wire.encode_arrays(sent, 1 << 30)))
    except CandidateError:
        return None
    assert sum(array.nbytes for array in answer.values()) < MOST_BYTES
    wire.encode_arrays(answer, 1 << 30)
    return answer


@pytest.fixture
def begun(judge):
    """An examination in the first block of its first layer."""
    examination = judge.examine("search", "source")
    assert examination.another_process()
    examination.answer("begin", {})
    examination.answer("next", {})
    return examination


@FUZZ
@given(messages=st.lists(st.tuples(questions, said), max_size=6), end=said)
def test_any_conversation_ends_in_answers_or_a_candidate_error(judge, messages, end):
    examination = judge.examine("search", "source")
    assert examination.another_process()
    for question, sent in messages:
        if tell(examination, question, sent) is None:
            return
    with pytest.raises(CandidateError):
        examination.take(end)


@FUZZ
@given(asked=st.lists(st.tuples(questions, said), min_size=1, max_size=4))
def test_nothing_that_is_asked_in_a_block_is_free_or_makes_it_cheaper(judge, asked):
    examination = judge.examine("search", "source")
    examination.another_process()
    examination.answer("begin", {})
    spent = float(examination.answer("next", {})["spent"])
    for question, sent in asked:
        answer = tell(examination, question, sent)
        if answer is None or question == "chosen":
            return
        assert float(answer["spent"]) >= spent
        if question in ("scores", "means") and answer["scores"].size:
            assert float(answer["spent"]) > spent
        spent = float(answer["spent"])


@pytest.mark.parametrize(
    ("question", "sent"),
    [
        ("begin", {}),
        ("next", {}),
        ("chosen", {}),
        ("chosen", {"columns": np.ones((HEADS, END), np.uint8), "drew": np.array(False)}),
        ("chosen", {"columns": np.ones((HEADS, END - 1), bool), "drew": np.array(False)}),
        ("chosen", {"columns": np.ones((HEADS, END), bool)}),
        ("scores", {"rows": np.arange(65, dtype=np.int32)}),
        ("scores", {"rows": np.array([-1], np.int32)}),
        ("compute", {"columns": np.zeros((HEADS, END + 1), np.int32)}),
        ("means", {"size": np.array(0)}),
    ],
)
def test_what_is_out_of_turn_or_malformed_is_refused(begun, question, sent):
    assert tell(begun, question, sent) is None


def test_a_process_that_ends_early_is_refused(begun):
    with pytest.raises(CandidateError):
        begun.take({})


def test_the_end_of_the_prompt_cannot_be_asked_for_once_blocks_are_decided(begun):
    answer = tell(begun, "scores", {"rows": np.array([0], np.int32)})
    assert answer["scores"].shape == (HEADS, 1, END)  # of the first block, and charged to it
    assert begun.playing.meter.shared == 0
