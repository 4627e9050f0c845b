"""Every byte that a policy reads is charged, once."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from evaluators.evaluation import CandidateError
from evaluators.token_selection.cache import Cache, Index, KeptIndex, Link, Shape
from evaluators.token_selection.kept import Kept, receive
from evaluators.token_selection.meter import MOST_BYTES, Meter
from evaluators.token_selection.state import pack, restore
from evaluators.token_selection.workloads import Layer, dense_bytes

G, N, D, H = 2, 50, 8, 4
ROW = D * 2


@dataclass
class Open:
    """A step that is open: the judge's meter, and the cache and the policy on the candidate's side of it."""

    meter: Meter
    cache: Cache
    policy: "Policy"


class Policy:
    pass


def opened(oracle=False, appended=1, **state) -> Open:
    keys, values = np.random.default_rng(0).normal(size=(2, G, N, D)).astype(np.float16)
    kept = receive(pack(state, ""), "", [], 1 << 30) if state else Kept("", {}, [], 0)
    layer = Layer(np.zeros((1, H, D), np.float32), keys, values, np.zeros((1, H, D), np.float16))
    meter = Meter(layer, N, kept, appended, oracle)
    link = Link(meter.answer)
    policy = restore(Policy, kept.arrays(""), "", link) if state else Policy()
    return Open(meter, Cache(link, Shape(H, G, N, D, 0, 1)), policy)


@pytest.fixture
def step() -> Open:
    return opened()


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers).expand(G, -1)


def test_dense_attention_reads_all_keys_and_values(step):
    everything = torch.arange(N).expand(G, -1)
    step.cache.keys(everything)
    step.cache.values(everything)
    assert step.meter.spent() == dense_bytes(G, N, D) == G * N * 2 * ROW
    assert step.cache.spent == 1


def test_a_row_is_charged_once_per_step_and_kv_head(step):
    step.cache.keys(rows(1, 2, 2))
    step.cache.keys(rows(2, 3))
    assert step.meter.spent() == G * 3 * ROW


def test_what_is_read_is_what_is_stored(step):
    assert np.array_equal(step.cache.keys(rows(4, 1)), step.meter.keys[:, [4, 1]].astype(np.float32))
    assert np.array_equal(step.cache.values(rows(4, 1)), step.meter.values[:, [4, 1]].astype(np.float32))
    assert np.array_equal(step.cache.key_channels(rows(7)), step.meter.keys[:, :, [7]].astype(np.float32))


def test_scores_charge_the_keys_and_nothing_else(step):
    query = torch.randn(H, D)
    scores = step.cache.scores(query, rows(0, 7))
    assert scores.shape == (H, 2)
    assert torch.allclose(scores[3, 1], query[3] @ step.cache.keys(rows(7))[1, 0] / D**0.5)
    assert step.meter.spent() == G * 2 * ROW


def test_an_oracle_reads_scores_for_free_and_nothing_else():
    step = opened(oracle=True)
    step.cache.scores(torch.randn(H, D), rows(*range(N)))
    assert step.meter.spent() == 0
    step.cache.keys(rows(0))
    assert step.meter.spent() == G * ROW


def test_a_key_channel_is_charged_for_all_tokens(step):
    assert step.cache.key_channels(rows(3, 5)).shape == (G, N, 2)
    step.cache.key_channels(rows(3))
    assert step.meter.spent() == G * 2 * N * 2


@pytest.mark.parametrize(("dtype", "size"), [(torch.int8, 1), (torch.bfloat16, 2), (torch.int32, 4)])
def test_an_index_is_charged_at_its_own_dtype_and_by_the_row(dtype, size):
    stored = torch.arange(G * 10 * 3).reshape(G, 10, 3).to(dtype)
    step = opened(kept=Index(stored))
    before = step.meter.spent()  # the attribute's name
    assert torch.equal(step.policy.kept.gather(rows(1, 4)), stored[:, [1, 4]])
    assert step.meter.spent() - before == G * 2 * 3 * size
    assert torch.equal(step.policy.kept.read(), stored)
    step.policy.kept.gather(rows(5))
    assert step.meter.spent() - before == G * 10 * 3 * size


@pytest.mark.parametrize("appended", [1, 2])
def test_what_is_written_into_an_index_is_charged_per_new_token(appended):
    step = opened(appended=appended, kept=Index(torch.zeros(G, 1, 3, dtype=torch.float16)))
    before = step.meter.spent()
    step.policy.kept.append(torch.ones(G, 2, 3))
    assert step.policy.kept.length == 3
    assert step.meter.spent() - before == G * 2 * 3 * 2 / appended
    assert step.policy.kept.read()[0, :, 0].tolist() == [0, 1, 1]


def test_an_index_that_grew_is_another_one_only_for_its_own_step():
    step = opened(kept=Index(torch.zeros(G, 1, 3)))
    first = step.meter.indices[0]
    step.policy.kept.append(torch.ones(G, 1, 3))
    assert first.shape == [G, 1, 3]
    assert step.meter.indices[0].shape == [G, 2, 3]


def test_reads_do_not_hand_out_what_is_stored():
    step = opened(kept=Index(torch.zeros(G, 4, 1)))
    step.policy.kept.read().fill_(9)
    step.cache.keys(rows(0)).fill_(99)
    assert step.policy.kept.read().max() == 0
    assert step.cache.keys(rows(0)).max() < 99


def test_selected_rows_are_not_charged_as_reads_to_decide(step):
    step.cache.keys(rows(1, 2))
    assert step.meter.beyond(np.array([0, H - 1]), np.array([2, 2]), H) == G * 1 * ROW


def test_affordable_is_what_the_reads_so_far_leave(step):
    assert step.cache.affordable(0.5) == N // 2
    step.cache.keys(rows(*range(10)))  # ten keys cost as much as five tokens
    assert step.cache.affordable(0.5) == N // 2 - 5
    assert step.cache.affordable(0.05) == 0
    assert step.cache.affordable(1.0) == N


def test_kept_tensors_are_charged_at_every_step():
    assert opened(kept=torch.zeros(100)).meter.spent() == 400 + 8 * len("kept")


QUESTIONS = {
    "a row beyond the last": ("keys", {"rows": np.full((G, 1), N, np.int32)}),
    "a row before the first": ("values", {"rows": np.full((G, 1), -1, np.int32)}),
    "rows of another shape": ("keys", {"rows": np.zeros((G + 1, 1), np.int32)}),
    "rows that are no whole numbers": ("keys", {"rows": np.zeros((G, 1), np.float32)}),
    "no rows": ("keys", {}),
    "a channel beyond the last": ("channels", {"rows": np.full((G, 1), D, np.int32)}),
    "an index that is not there": ("index", {"index": np.array(0)}),
    "an index by no number": ("index", {"index": np.array([0.5])}),
    "rows for an index that is not there": (
        "append",
        {"index": np.array(-1), "rows": np.zeros((G, 1, 4), np.uint8)},
    ),
    "another question": ("queries", {}),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_without_an_answer_is_refused(step, name):
    with pytest.raises(CandidateError, match="does not answer"):
        step.meter.answer(*QUESTIONS[name])


def test_no_answer_and_no_index_grows_without_end():
    step = opened(kept=Index(torch.zeros(G, 1, 1024)))
    many = np.zeros((G, MOST_BYTES // 4096), np.int32)
    with pytest.raises(CandidateError, match="more than 64 MiB"):
        step.meter.answer("index", {"index": np.array(0), "rows": many})
    with pytest.raises(CandidateError, match="more than 64 MiB"):
        step.meter.answer("keys", {"rows": np.zeros((G, MOST_BYTES // ROW), np.int32)})
    with pytest.raises(CandidateError, match="more than 64 MiB"):
        step.meter.answer(
            "append", {"index": np.array(0), "rows": np.zeros((G, MOST_BYTES // 8192, 4096), np.uint8)}
        )


@pytest.mark.parametrize("given", [torch.zeros(G, 2, 4), torch.zeros(G + 1, 2, 3), torch.zeros(3), None])
def test_rows_that_do_not_fit_an_index_are_refused_with_what_fits(given):
    kept = opened(kept=Index(torch.zeros(G, 1, 3))).policy.kept
    assert isinstance(kept, KeptIndex)
    with pytest.raises(CandidateError, match=r"takes rows \[2, r, 3\]"):
        kept.append(given)
