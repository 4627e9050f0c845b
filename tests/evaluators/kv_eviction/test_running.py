"""What follows a cache is computed as the model itself does, branch by branch."""

from pathlib import Path

import pytest
import torch

from evaluators.kv_eviction.compression import Tokens, cache_of, paid
from evaluators.kv_eviction.contexts import Asked, Context
from evaluators.kv_eviction.decoding import appended
from evaluators.kv_eviction.measuring import branches_of
from evaluators.kv_eviction.prefilled import moments, read, statistics
from evaluators.kv_eviction.reference import attention
from evaluators.kv_eviction.running import LayerCache, log_probabilities, plain_cache
from evaluators.models import full_layers, load_model
from tests.evaluators.test_decoding import save_windowed_model
from tests.evaluators.test_record_model import save_tiny_model, text

LENGTH = 90
BRANCHES = ((3, 1, 4, 1, 5), (9, 2, 6), (5, 3, 5, 8, 9, 7))


@pytest.fixture(scope="module", params=["tiny", "windowed"])
def loaded(request, tmp_path_factory) -> tuple:
    folder: Path = tmp_path_factory.mktemp(request.param)
    save = {"tiny": save_tiny_model, "windowed": save_windowed_model}[request.param]
    return load_model(str(save(folder)))


@pytest.fixture(scope="module")
def context(loaded) -> Context:
    tokens = loaded[1](text("a", LENGTH).content).input_ids[:LENGTH]
    return Context("a", "plain", tuple(tokens), (1, 2, 3), ())


@pytest.fixture(scope="module")
def found(loaded, context) -> dict[str, torch.Tensor]:
    return read(loaded[0], context)


def caches_of(model, found) -> dict[int, LayerCache]:
    caches = {}
    for layer in range(model.config.num_hidden_layers):
        cache = plain_cache(found[f"keys.{layer}"], found[f"values.{layer}"])
        positions = None if layer in full_layers(model) else torch.arange(LENGTH)
        caches[layer] = LayerCache(cache.keys, cache.values, cache.bias, positions)
    return caches


def test_each_branch_is_what_the_model_makes_of_it_alone(loaded, context, found):
    model = loaded[0]
    rows = range(sum(map(len, BRANCHES)))
    ours = log_probabilities(model, BRANCHES, LENGTH, caches_of(model, found), rows=rows)
    with torch.no_grad():
        alone = [
            model(torch.tensor([[*context.tokens, *branch]])).logits[0, LENGTH:].log_softmax(-1)
            for branch in BRANCHES
        ]
    assert torch.allclose(ours, torch.cat(alone), atol=2e-2)
    mixed = log_probabilities(model, BRANCHES[::-1], LENGTH, caches_of(model, found), rows=rows)
    assert torch.allclose(mixed[: len(BRANCHES[-1])], ours[-len(BRANCHES[-1]) :], atol=1e-5)


def test_statistics_are_the_attention_that_is_paid(loaded, found):
    generator = torch.Generator().manual_seed(1)
    queries, keys = (torch.randn(heads, 40, 8, generator=generator) for heads in (4, 2))
    received, frequent = statistics(queries, keys, 16)
    assert received.shape == (3, 2, 40)
    for block, group, token in ((0, 0, 3), (1, 1, 20), (2, 0, 39), (2, 1, 5)):
        weights, often = [], []
        for position in range(block * 16, min(40, block * 16 + 16)):
            if position < token:
                continue
            for head in (2 * group, 2 * group + 1):
                scores = queries[head, position] @ keys[group, : position + 1].T / 8**0.5
                weight = float(scores.softmax(-1)[token])
                weights.append(weight)
                often.append(weight > 1 / (position + 1))
        assert float(received[block, group, token]) == pytest.approx(sum(weights) / len(weights), rel=1e-4)
        assert float(frequent[block, group, token]) == pytest.approx(sum(often) / len(often))
    assert (received[0, :, 16:] == 0).all()
    layer = full_layers(loaded[0])[0]
    total = found[f"received.{layer}"].float()[0, :, :64].sum(-1)
    assert (
        total > 0.9
    ).all()  # early tokens are seen by more queries than late ones, of which it is the mean


def test_moments_are_those_of_queries_at_the_next_positions():
    generator = torch.Generator().manual_seed(2)
    angles = torch.arange(700.0)[:, None] * torch.tensor([1.0, 0.1, 0.01])
    cosine, sine = (torch.cat([part, part], 1) for part in (angles.cos(), angles.sin()))

    def turned(vector: torch.Tensor, position: int) -> torch.Tensor:
        first, second = vector.chunk(2, -1)
        return vector * cosine[position] + torch.cat([-second, first], -1) * sine[position]

    bare = torch.randn(2, 60, 6, generator=generator) + 1
    queries = torch.stack([turned(bare[:, position], position) for position in range(60)], 1)
    mean, covariance = moments(queries, cosine[:60], sine[:60])
    ahead = torch.stack([turned(bare, position) for position in range(60, 60 + 59)]).mean(0)[:, 4:]
    assert torch.allclose(mean, ahead.mean(1), atol=1e-4)
    centred = ahead - ahead.mean(1, keepdim=True)
    assert torch.allclose(covariance, centred.transpose(1, 2) @ centred / 56, atol=1e-4)


def test_a_token_that_stands_for_several_counts_as_often():
    generator = torch.Generator().manual_seed(3)
    keys, values = torch.randn(2, 1, 5, 8, generator=generator)
    counts = torch.tensor([[1.0, 4.0, 2.5, 1.0, 1.0]])
    positions = torch.tensor([[0, 3, 5, 6, -1]]).numpy()
    cache = cache_of(Tokens(keys, values, positions, counts))
    query = torch.randn(8, generator=generator)
    weights = (keys[0] @ query / 8**0.5 + cache.bias[0]).softmax(-1)
    exact = attention(query.tolist(), keys[0, :4].tolist(), values[0, :4].tolist(), counts[0, :4].tolist())
    assert torch.allclose(weights @ values[0], torch.tensor(exact), atol=1e-5)
    assert cache.bias[0, 4] == -torch.inf


def test_new_tokens_come_behind_those_of_each_head():
    keys, values = torch.randn(2, 2, 4, 8, generator=torch.Generator().manual_seed(4))
    positions = torch.tensor([[0, 1, 2, 9], [0, 9, -1, -1]]).numpy()
    state = torch.rand(2, 4, 2).half().numpy()
    new = torch.ones(2, 3, 8)
    tokens = appended(Tokens(keys, values, positions, None, state), new, new, positions[0, :3] + 10)
    assert tokens.positions.tolist() == [[0, 1, 2, 9, 10, 11, 12], [0, 9, 10, 11, 12, -1, -1]]
    assert torch.equal(tokens.keys[1, :2], keys[1, :2])
    assert (tokens.keys[1, 2:5] == 1).all()
    assert (tokens.state[1, 2:] == 0).all()
    queries = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(5))
    received, frequent = paid(queries, tokens, positions[0, :3] + 10)
    assert received.shape == frequent.shape == (2, 7)
    assert (received[1, 5:] == 0).all()
    assert float(received[1, 0]) == pytest.approx(
        float(
            torch.stack(
                [
                    (queries[head, row] @ tokens.keys[1, : 3 + row].T / 8**0.5).softmax(-1)[0]
                    for head in (2, 3)
                    for row in range(3)
                ]
            ).mean()
        ),
        rel=1e-4,
    )


def test_rows_are_those_that_predict_the_answers():
    first = Asked("single", 0.1, (1, 2, 3), (4, 5))
    second = Asked("multi", 0.9, (6, 7), (8,))
    context = Context("a", "plain", (0,) * 9, tuple(range(300)), ((first, second), (second, first)))
    branches, rows, spans = branches_of(context)
    assert branches[1:] == [[1, 2, 3, 4, 5, 6, 7], [6, 7, 8, 1, 2, 3, 4]]
    flat = [token for branch in branches for token in branch]
    followed = [*flat[1:], None]
    asked = [[followed[row] for row in rows[begin:end]] for begin, end in spans]
    assert asked[:1] == [[4, 5]]
    assert asked[2] == [8]
    assert [flat[row] for row in rows[spans[1][0] : spans[1][1]]] == [7]
    assert [flat[row] for row in rows[spans[3][0] : spans[3][1]]] == [3, 4]
