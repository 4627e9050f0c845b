"""Every seed keeps what its paper claims. Played on recorded queries, keys and values of a real model."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.seeds.policies import SEEDS, a_cache, exact_weights, module, prepared

BUDGETS = ("2.5%", "5.0%", "10.0%", "20.0%")


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_states_its_source_and_imports_nothing_of_the_project(name):
    tree = ast.parse(SEEDS[name].source)
    assert any(mark in (ast.get_docstring(tree) or "") for mark in ("arXiv:", "JASA", "STOC"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"torch", "math"}


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_passes_the_probe_and_so_reproduces_dense_attention_at_full_budget(name, worker):
    outcome = worker.run(SEEDS[name].source, "probe")
    assert outcome.failure is None, outcome.message


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_uses_its_budget_and_never_more(name, verdicts):
    for budget in BUDGETS:
        used = verdicts[name]["metrics"][f"traffic@{budget}"]
        assert 0.75 * float(budget[:-1]) / 100 < used <= float(budget[:-1]) / 100 * (1 + 1e-6)


def test_floors_are_below_all_and_bounds_above_their_kind(verdicts):
    score = {name: verdict["score"] for name, verdict in verdicts.items()}
    others = [score[name] for name, seed in SEEDS.items() if seed.role == "seed"]
    assert max(score["uniform_random"], score["recent_window"]) < min(others)
    assert score["oracle_top_k"] > max(
        score[name] for name in ("quest", "simhash", "sparq", "squeezed_attention")
    )
    assert score["oracle_vattention"] > max(score[name] for name in SEEDS if name.endswith("_sampled"))


def test_half_sampled_beats_top_k_alone_in_mean_and_tail(verdicts):
    for budget in ("10.0%", "20.0%"):
        for figure in ("mean_error", "p95_error"):
            mixed, alone = (
                verdicts[n]["metrics"][f"{figure}@{budget}"] for n in ("oracle_vattention", "oracle_top_k")
            )
            assert mixed < alone


def test_uniform_random_selects_every_token_equally_often(layer):
    query, _, cache = a_cache(layer)
    policy, generator = module("uniform_random").Policy(), torch.Generator().manual_seed(0)
    counts = torch.zeros(cache.length)
    draws = 2_000
    for _ in range(draws):
        tokens, probability = policy.select(query, cache, 0.1, generator)
        counts[tokens[0].long()] += 1
    share = float(probability[0, 0])
    error = (share * (1 - share) / draws) ** 0.5
    assert (counts / draws - share).abs().max() < 5 * error


def test_the_recent_window_is_the_newest_tokens(layer):
    query, _, cache = a_cache(layer)
    tokens, _ = module("recent_window").Policy().select(query, cache, 0.1, None)
    assert sorted(tokens[0].tolist()) == list(range(cache.length - tokens.shape[1], cache.length))


def test_streaming_llm_keeps_four_sinks_and_the_newest(layer):
    query, _, cache = a_cache(layer)
    kept = sorted(module("streaming_llm").Policy().select(query, cache, 0.1, None)[0][0].tolist())
    assert kept[:4] == [0, 1, 2, 3]
    assert kept[4:] == list(range(cache.length - len(kept) + 4, cache.length))


def test_streaming_llm_beats_the_window_without_sinks(verdicts):
    for budget in BUDGETS:
        sinks, window = (
            verdicts[n]["metrics"][f"mean_error@{budget}"] for n in ("streaming_llm", "recent_window")
        )
        assert sinks < window


def test_no_list_of_equal_length_holds_more_weight_than_oracle_top_k(layer):
    query, keys, cache = a_cache(layer)
    tokens, _ = module("oracle_top_k").Policy().select(query, cache, 0.1, None)
    weights = exact_weights(query, keys).sum(1)
    mine = weights.gather(1, tokens.view(keys.shape[0], -1, tokens.shape[1])[:, 0].long())
    assert torch.allclose(mine.sum(1), weights.sort(descending=True).values[:, : tokens.shape[1]].sum(1))


def test_oracle_top_p_gives_flat_heads_more_tokens_and_all_the_same_mass(layer):
    query, keys, cache = a_cache(layer)
    tokens, _ = module("oracle_top_p").Policy().select(query, cache, 0.1, None)
    rows = tokens.view(keys.shape[0], -1, tokens.shape[1])[:, 0]
    weights = exact_weights(query, keys).mean(1)
    mass = torch.stack([weights[g, row[row >= 0].long()].sum() for g, row in enumerate(rows)])
    last = torch.stack([weights[g, row[row >= 0].long()].min() for g, row in enumerate(rows)])
    share = mass.min()
    assert ((mass - last) <= share + 1e-4).all()  # without its last token, none reaches the common share
    assert int((rows >= 0).sum()) <= int(0.1 * cache.length) * keys.shape[0]


def test_a_page_bound_is_never_below_a_score_of_its_page(layer):
    query, keys, _ = a_cache(layer)
    quest = module("quest")
    policy = quest.Policy()
    policy.prefill(keys)
    low, high = policy.bounds.read().float().unbind(2)
    grouped = query.view(keys.shape[0], -1, keys.shape[-1])
    bound = grouped.clamp(min=0) @ high.transpose(1, 2) + grouped.clamp(max=0) @ low.transpose(1, 2)
    scores = grouped @ keys.transpose(1, 2)
    best = scores[..., : bound.shape[-1] * quest.PAGE].unflatten(-1, (-1, quest.PAGE)).amax(-1)
    assert (bound >= best - 1e-3 * best.abs()).all()


def test_quest_reads_the_pages_of_the_highest_published_bounds(layer):
    """Sum over channels of max(q min k, q max k); the query heads of a KV head vote by softmax."""
    query, keys, cache = a_cache(layer)
    quest, policy = prepared("quest", layer)
    tokens, _ = policy.select(query, cache, 0.2, None)
    pages = cache.length // quest.PAGE
    for head, row in enumerate(tokens.view(len(keys), -1, tokens.shape[1])[:, 0].tolist()):
        votes = np.zeros(pages)
        for asked in query.view(len(keys), -1, keys.shape[2])[head].double().numpy():
            inside = keys[head, : pages * quest.PAGE].double().numpy().reshape(pages, quest.PAGE, -1)
            bounds = np.maximum(asked * inside.min(1), asked * inside.max(1)).sum(1) / len(asked) ** 0.5
            votes += np.exp(bounds - bounds.max()) / np.exp(bounds - bounds.max()).sum()
        read = sorted({token // quest.PAGE for token in row if token < pages * quest.PAGE})
        assert 5 < len(read) < pages / 3
        assert read == sorted(np.argsort(-votes)[: len(read)].tolist())


def test_pages_filled_token_by_token_equal_those_of_prefill(layer):
    _, keys, _ = a_cache(layer)
    quest = module("quest")
    at_once, one_by_one = quest.Policy(), quest.Policy()
    at_once.prefill(keys[:, :64])
    one_by_one.prefill(keys[:, :40])
    for token in range(40, 64):
        one_by_one.append(keys[:, token : token + 1])
    assert torch.equal(at_once.bounds.read(), one_by_one.bounds.read())
    assert one_by_one.open == 0


def test_agreeing_simhash_bits_estimate_the_angle():
    simhash = module("simhash")
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4_000, 64, generator=generator)
    mixed = first + 0.5 * second
    different = simhash.signatures(first) ^ simhash.signatures(mixed)
    share = ((different[:, None] >> torch.arange(simhash.BITS)) & 1).float().mean()
    angle = (
        torch.cosine_similarity(first, mixed).acos().mean() / torch.pi
    )  # Charikar: Pr[bits differ] = angle / pi
    assert abs(float(share - angle)) < 0.02


def test_simhash_finds_more_weight_than_a_random_list(layer):
    query, keys, cache = a_cache(layer)
    policy = module("simhash").Policy()
    policy.prefill(keys)
    tokens, _ = policy.select(query, cache, 0.2, None)
    found = exact_weights(query, keys).flatten(0, 1).gather(1, tokens.long()).sum(1).mean()
    assert found > 2 * 0.2


def test_sparq_with_all_channels_is_exact_top_k(layer):
    query, _keys, cache = a_cache(layer)
    sparq = module("sparq")
    sparq.SINKS, sparq.WINDOW = 0, -cache.length  # ranking[:, length:] is nobody
    sparq.CHANNEL_SHARE = 5.0  # of a budget of 10% pays for all channels
    tokens, _ = sparq.Policy().select(query, cache, 0.1, None)
    exact, _ = module("oracle_top_k").Policy().select(query, cache, 0.1, None)
    assert set(tokens[0].tolist()) == set(exact[0].tolist())


def test_sparq_ranks_tokens_by_the_published_estimate(layer):
    """Scores by the channels of the largest query, over the root of D and their share of the query's norm."""
    query, keys, cache = a_cache(layer)
    sparq = module("sparq")
    sparq.SINKS, sparq.WINDOW = 0, -cache.length
    tokens, _ = sparq.Policy().select(query, cache, 0.1, None)
    count = int(0.1 * sparq.CHANNEL_SHARE * 2 * cache.head_size)
    for head, row in enumerate(tokens.view(len(keys), -1, tokens.shape[1])[:, 0].tolist()):
        asked = query.view(len(keys), -1, keys.shape[2])[head].double().numpy()
        channels = np.argsort(-np.abs(asked).sum(0))[:count]
        ranking = np.zeros(cache.length)
        for one in asked:
            share = np.abs(one[channels]).sum() / np.abs(one).sum()
            scores = keys[head].double().numpy()[:, channels] @ one[channels] / (len(one) * share) ** 0.5
            ranking += np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        assert row == np.argsort(-ranking)[: len(row)].tolist()


def test_squeezed_attention_clusters_are_a_partition_whose_centres_are_means(layer):
    _, keys, _ = a_cache(layer)
    squeezed = module("squeezed_attention")
    policy = squeezed.Policy()
    policy.prefill(keys)
    sizes, members = policy.sizes.read()[..., 0].long(), policy.members.read()[..., 0].long()
    assert torch.equal(members.sort(1).values, torch.arange(keys.shape[1]).expand(keys.shape[0], -1))
    assert (sizes.sum(1) == keys.shape[1]).all()
    largest = int(sizes[0].argmax())
    start = int(sizes[0, :largest].sum())
    cluster = members[0, start : start + int(sizes[0, largest])]
    assert torch.allclose(policy.means.read()[0, largest].float(), keys[0, cluster].mean(0), atol=2e-2)


@pytest.mark.parametrize("name", [name for name in SEEDS if name.endswith("_sampled")])
def test_a_sampled_seed_reads_half_for_certain_and_half_with_true_probability(name, layer):
    query, keys, cache = a_cache(layer)
    policy = module(name).Policy()
    if hasattr(policy, "prefill"):
        policy.prefill(keys)
    tokens, probability = policy.select(query, cache, 0.2, torch.Generator().manual_seed(0))
    certain, sampled = int((probability[0] == 1).sum()), int((probability[0] < 1).sum())
    assert abs(certain - sampled) <= 1
    assert float(probability[0].min()) == pytest.approx(sampled / (cache.length - certain))
    assert len(set(tokens[0].tolist())) == tokens.shape[1]
    assert not np.array_equal(
        tokens[0], policy.select(query, cache, 0.2, torch.Generator().manual_seed(1))[0][0]
    )


def test_all_seed_files_are_listed():
    files = {path.stem for path in (Path(__file__).parents[2] / "seeds" / "token_selection").glob("*.py")}
    assert files == set(SEEDS)
