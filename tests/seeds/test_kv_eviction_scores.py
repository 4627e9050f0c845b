"""Seeds of kv_eviction that go by attention, position or head; and what holds for every seed."""

import pytest
import torch

from evaluators.kv_eviction.language import LANGUAGE
from evaluators.problem import get_problem
from sandbox.screen import screen
from tests.seeds.eviction import (
    LAYERS,
    attended,
    causal_attention,
    kept,
    observed,
    policy,
    program,
    prompt,
    shown,
    source,
    tensors,
)

NAMES = tuple(seed.name for seed in get_problem("kv_eviction").seeds() if seed.role != "bound")


@pytest.mark.parametrize("name", NAMES)
def test_sources_pass_the_screen(name):
    assert screen(source(name), LANGUAGE) == []


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_numbers_and_do_not_depend_on_what_was_scored_before(name):
    observer, layer = observed(name, 14)
    before = [layer.keys.clone(), layer.values.clone(), layer.queries.clone()]
    scores = observer.score(layer)
    assert scores.shape == layer.positions.shape
    assert (scores > -torch.inf).all()  # false of NaN
    assert all(map(torch.equal, before, [layer.keys, layer.values, layer.queries]))
    other, _ = observed(name, 27)
    assert torch.equal(other.score(layer), scores)


@pytest.mark.parametrize("name", NAMES)
def test_short_contexts_and_heads_with_fewer_tokens_are_scored_and_merged(name):
    small, (queries, keys, values) = policy(name), tensors(14)
    layer = shown(queries[:, :16], keys[:, :16], values[:, :16], 14)
    layer.positions[0, -5:] = -1
    layer.received, layer.frequent = attended(layer)
    if hasattr(small, "observe"):
        layer.state = small.observe(layer)
    scores = small.score(layer)
    assert (scores[layer.positions >= 0] > -torch.inf).all()
    if hasattr(small, "merge"):
        places = kept(scores.masked_fill(layer.positions < 0, -1), 6)
        places[0, -2:] = -1
        merged_keys, merged_values, _ = small.merge(layer, places)
        assert merged_keys.isfinite().all()
        assert merged_values.isfinite().all()


def grouped(weights: torch.Tensor) -> torch.Tensor:
    """Means [3, n] of weights [9, n] over the heads of a group."""
    return torch.stack([weights[3 * group : 3 * group + 3].mean(0) for group in range(3)])


def test_streaming_llm_keeps_the_first_four_and_the_newest():
    for head in kept(policy("streaming_llm").score(prompt(0)), 100).tolist():
        assert head == [*range(4), *range(992 - 96, 992)]


def test_a_recent_window_keeps_the_newest_alone():
    for head in kept(policy("recent_window").score(prompt(0)), 100).tolist():
        assert head == list(range(892, 992))


def test_random_eviction_knows_nothing():
    first, second = prompt(0), prompt(14)
    one = policy("uniform_random").score(first)
    second.index = 0
    assert torch.equal(policy("uniform_random").score(second), one)
    chosen = kept(one, 496)[0]
    assert len(set(chosen.tolist()) & set(range(496))) == pytest.approx(248, abs=50)


@pytest.mark.parametrize("number", LAYERS)
def test_h2o_ranks_older_tokens_by_all_attention_they_have_received(number):
    observer, layer = observed("h2o", number)
    scores, recent = observer.score(layer), int(program("h2o")["RECENT"] * 256)
    assert torch.isinf(scores[:, 256 - recent :]).all()
    total = grouped(causal_attention(number).sum(1))
    assert torch.allclose(scores[:, :-recent], total[:, :-recent], rtol=0.01)


def test_scissorhands_drops_what_fell_below_average_most_often():
    observer, layer = observed("scissorhands", 14)
    scores = observer.score(layer)
    assert torch.isinf(scores[:, -10:]).all()
    weights = causal_attention(14)
    blocks = []
    for block in range(4):
        rows = range(64 * block, 64 * block + 64)
        counts = torch.zeros(9, 256)
        for row in rows:
            counts[:, : row + 1] += weights[:, row, : row + 1] > 1 / (row + 1)
        blocks.append(grouped(counts))
    for token in (0, 5, 40):  # seen by all 64 queries of the later blocks
        value = blocks[0][1, token] / (64 - token)
        for block in (1, 2, 3):
            value += (blocks[block][1, token] / 64 - value) * 64 / 400
        assert float(scores[1, token]) == pytest.approx(float(value), abs=2e-3)


def test_tova_keeps_the_same_tokens_in_all_heads_by_the_newest_query():
    layer = prompt(14)
    scores = policy("tova").score(layer)
    assert torch.equal(scores[0], scores[2])
    queries, keys, _ = tensors(14, whole=True)
    rows = [(queries[head, -1] @ keys[head // 3].T / 8).softmax(-1) for head in range(9)]
    assert torch.allclose(scores[1], torch.stack(rows).mean(0), atol=1e-5)


def test_snapkv_pools_what_the_window_attends_to_and_keeps_the_window():
    layer = prompt(14)
    scores = policy("snapkv").score(layer)
    assert torch.isinf(scores[:, -64:]).all()
    weights = grouped(layer.attention.mean(1))
    for token in (10, 500, 900):
        near = [float(weights[1, place]) for place in range(token - 2, token + 3)]
        assert float(scores[1, token]) == pytest.approx(sum(near) / 5, rel=1e-4)


def test_pyramidkv_gives_early_layers_more_in_equal_steps():
    shares = policy("pyramidkv").allocate([torch.zeros(3, 9)] * 30, 0.25)[:, 0]
    steps = shares[:-1] - shares[1:]
    assert torch.allclose(steps, steps[0].expand(29), atol=1e-4)
    assert float(shares[0] / shares.mean()) == pytest.approx(1.95)
    assert float(shares[-1] / shares.mean()) == pytest.approx(0.05)


def test_adakv_gives_heads_what_they_have_among_the_best_of_their_layer():
    scores = torch.zeros(3, 100)
    scores[0, :30] = torch.arange(30) + 1.0
    scores[1, 50:60] = torch.arange(10) + 1.0
    scores[2, :20] = 0.5
    (shares,) = policy("adakv").allocate([scores], 40 / 300)
    assert torch.allclose(shares, 0.2 / 3 + 0.8 * torch.tensor([30, 10, 0]) / 40)


def test_cake_prefers_layers_of_wide_and_restless_attention():
    policies = policy("cake")
    wide, peaked, still = (prompt(14) for _ in range(3))
    torch.manual_seed(0)
    noise = torch.rand(9, 64, 992)
    wide.known = noise / noise.sum(-1, keepdim=True)
    peaked.known = torch.nn.functional.one_hot(torch.randint(40, 60, (9, 64)), 992).float()
    still.known = torch.full((9, 64, 992), 1 / 992)
    scores = [policies.score(layer) for layer in (wide, still)]
    shares = policies.allocate(scores, 0.25)[:, 0]
    assert shares[0] > shares[1]
    mean, variance = wide.known[:, -32:].mean(1), wide.known[:, -32:].var(1)
    exact = grouped(mean + program("cake")["VARIANCE"] * variance)
    near = [float(exact[2, place]) for place in range(98, 103)]
    assert float(scores[0][2, 100]) == pytest.approx(sum(near) / 5, rel=1e-4)


def test_only_heads_that_look_at_the_middle_vote_in_compresskv():
    layer = prompt(14)
    weights = torch.zeros(9, 64, 992)
    weights[:, :, 0] = 1.0  # streaming heads
    weights[[1, 4, 5, 8], :, 0] = 0.5
    weights[[1, 4, 5, 8], :, 300] = 0.5
    weights[0, :, 600] = 0.1
    layer.known = weights
    scores = policy("compresskv").score(layer)
    assert scores[:, 300].min() > 0
    assert (scores[:, 600] == 0).all()
    assert torch.equal(scores[0], scores[1])


@pytest.mark.parametrize(("name", "part"), [("duo_attention", "loss"), ("razor_attention", "copies")])
def test_heads_that_retrieve_get_the_bytes_of_the_others(name, part):
    observer, layer = policy(name), prompt(14)
    layer.learnt = {part: torch.tensor([0.01, 0.6, 0.02])}
    scores = observer.score(layer)
    (shares,) = observer.allocate([scores], 0.25)
    assert shares[1] > 2 * shares[0]
    assert shares.min() > 0
    layer.learnt = {}
    measured = policy(name)
    assert measured.allocate([measured.score(layer)], 0.25)[0].min() > 0


def test_one_token_stands_for_all_that_razor_attention_drops():
    observer, layer = policy("razor_attention"), prompt(14)
    places = kept(observer.score(layer), 60)
    keys, values, counts = observer.merge(layer, places)
    assert (counts.sum(1) == 992).all()
    assert ((counts > 1).sum(1) == 1).all()
    heavy = counts[1].argmax()
    stays = [token for slot, token in enumerate(places[1].tolist()) if slot != heavy]
    dropped = [token for token in range(992) if token not in stays]
    assert torch.allclose(keys[1, heavy], layer.keys[1, dropped].mean(0), atol=1e-4)
    assert torch.allclose(values[1, heavy], layer.values[1, dropped].mean(0), atol=1e-4)
    assert torch.equal(keys[1, heavy + 1 :], layer.keys[1, places[1, heavy + 1 :]])


def test_every_chunk_keeps_its_share_in_citrus():
    observer, layer = policy("citrus"), prompt(14)
    scores = observer.score(layer)
    known = torch.isinf(scores)
    for chunk in range(3):
        part = scores[1, 256 * chunk : 256 * chunk + 256]
        assert float(part[~torch.isinf(part)].sum()) == pytest.approx(1, abs=1e-3)
    assert known[:, :4].all()
    assert known[:, -32:].all()
    assert known.sum() == 3 * 36
