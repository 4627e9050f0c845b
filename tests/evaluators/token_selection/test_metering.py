"""Every byte that a policy reads is charged, once."""

import pytest
import torch

from evaluators.evaluation import CandidateError
from evaluators.token_selection.metering import LEDGER, Cache, Index, OracleCache, state_bytes
from evaluators.token_selection.workloads import dense_bytes

G, N, D, H = 2, 50, 8, 4
ROW = D * 2


@pytest.fixture
def cache() -> Cache:
    LEDGER.start(G, N, D)
    keys, values = torch.randn(2, G, N, D, generator=torch.Generator().manual_seed(0))
    return Cache(keys, values, H, 0, 1)


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers).expand(G, -1)


def test_dense_attention_reads_all_keys_and_values(cache):
    everything = torch.arange(N).expand(G, -1)
    cache.keys(everything)
    cache.values(everything)
    assert LEDGER.spent() == dense_bytes(G, N, D) == G * N * 2 * ROW
    assert cache.spent == 1


def test_a_row_is_charged_once_per_step_and_kv_head(cache):
    cache.keys(rows(1, 2, 2))
    cache.keys(rows(2, 3))
    assert LEDGER.spent() == G * 3 * ROW
    LEDGER.start(G, N, D)
    assert LEDGER.spent() == 0


def test_scores_charge_the_keys_and_nothing_else(cache):
    query = torch.randn(H, D)
    scores = cache.scores(query, rows(0, 7))
    assert scores.shape == (H, 2)
    assert torch.allclose(scores[3, 1], query[3] @ cache.keys(rows(7))[1, 0] / D**0.5)
    assert LEDGER.spent() == G * 2 * ROW


def test_an_oracle_reads_scores_for_free(cache):
    oracle = OracleCache(cache._keys, cache._values, H, 0, 1)
    oracle.scores(torch.randn(H, D), rows(*range(N)))
    assert LEDGER.spent() == 0


def test_a_key_channel_is_charged_for_all_tokens(cache):
    assert cache.key_channels(rows(3, 5)).shape == (G, N, 2)
    cache.key_channels(rows(3))
    assert LEDGER.spent() == G * 2 * N * 2


@pytest.mark.parametrize(("dtype", "size"), [(torch.int8, 1), (torch.float16, 2), (torch.int32, 4)])
def test_an_index_is_charged_at_its_own_dtype(cache, dtype, size):
    index = Index(torch.zeros(G, 10, 3, dtype=dtype))
    index.gather(rows(1, 4))
    assert LEDGER.spent() == G * 2 * 3 * size
    index.read()
    index.gather(rows(5))
    assert LEDGER.spent() == G * 10 * 3 * size


def test_what_is_written_into_an_index_is_charged(cache):
    index = Index(torch.zeros(G, 1, 3, dtype=torch.float16))
    index.append(torch.zeros(G, 2, 3))
    assert index.length == 3
    assert LEDGER.spent() == G * 2 * 3 * 2


def test_reads_do_not_hand_out_what_is_stored(cache):
    index = Index(torch.zeros(G, 4, 1))
    index.read().fill_(9)
    cache.keys(rows(0)).fill_(9)
    assert index.read().max() == 0
    assert cache.keys(rows(0)).max() < 9


def test_selected_rows_are_not_charged_as_reads_to_decide(cache):
    cache.keys(rows(1, 2))
    selected = torch.zeros(G, N, dtype=torch.bool)
    selected[:, 2] = True
    assert LEDGER.beyond(selected) == G * 1 * ROW


def test_affordable_is_what_the_reads_so_far_leave(cache):
    assert cache.affordable(0.5) == N // 2
    cache.keys(rows(*range(10)))  # ten keys cost as much as five tokens
    assert cache.affordable(0.5) == N // 2 - 5
    assert cache.affordable(0.05) == 0
    assert cache.affordable(1.0) == N


def test_state_is_charged_in_full_and_an_index_is_not():
    state = {
        "a": torch.zeros(3, dtype=torch.float16),
        "b": [1, 2.0],
        "c": Index(torch.zeros(1, 9)),
        "d": None,
    }
    assert state_bytes(state) == 6 + 3 * 8 + 4 * 8  # tensor, three numbers or None, four names of one letter


@pytest.mark.parametrize("state", [lambda: 0, {1, 2}, iter([])])
def test_state_that_cannot_be_counted_is_refused(state):
    with pytest.raises(CandidateError, match="between calls"):
        state_bytes({"kept": state})
