"""Decode-time systems as seeds: each does what its paper says, on a recorded layer of a real model."""

import itertools

import pytest
import torch

from evaluators.token_selection import standalone
from tests.seeds.policies import SEEDS, a_cache, exact_weights, module, prepared, prompt_queries

STATIC = ("recycled_attention", "scissorhands", "h2o")  # whose choice is made by the prompt


def chosen(name: str, layer, budget: float = 0.1, seed: int = 0):
    """What a seed selects at its first step, and with which probability [H, M] each."""
    query, _, cache = a_cache(layer)
    _, policy = prepared(name, layer)
    return policy.select(query, cache, budget, torch.Generator().manual_seed(seed))


def heads_of(tokens: torch.Tensor, kv_heads: int = 3) -> list[list[int]]:
    """The tokens of each KV head."""
    rows = tokens.view(kv_heads, -1, tokens.shape[1])[:, 0]
    return [row[row >= 0].tolist() for row in rows]


@pytest.mark.parametrize("name", SEEDS)
def test_no_token_is_selected_twice_and_query_heads_of_a_group_share_a_list(name, layer):
    tokens, _ = chosen(name, layer)
    for row in tokens.tolist():
        real = [token for token in row if token >= 0]
        assert len(set(real)) == len(real) > 0
    assert torch.equal(tokens.view(3, 3, -1)[:, 0], tokens.view(3, 3, -1)[:, 2])


def test_labels_of_double_sparsity_are_the_heaviest_channels_to_half_a_step(layer):
    loaded, policy = prepared("double_sparsity", layer)
    _, keys, _ = a_cache(layer)
    queries = prompt_queries(layer).view(keys.shape[0], -1, keys.shape[2])
    pairs = zip(queries, keys[:, ::16], strict=True)
    weight = torch.stack([(query[:, None] * key).abs().mean((0, 1)) for query, key in pairs])
    for head, channels in enumerate(policy.channels.tolist()):
        assert len(set(channels) & set(weight[head].topk(loaded.CHANNELS).indices.tolist())) >= 7
    codes = (policy.labels.read() >> (loaded.BITS * torch.arange(loaded.CHANNELS))) & 15
    labels = codes * policy.step[:, None].float() + policy.low[:, None].float()
    error = (labels - loaded.chosen(keys, policy.channels))[:, loaded.SINKS :].abs()
    assert (error <= policy.step[:, None].float() * 0.51 + 1e-3).all()


def test_hashes_of_opposite_keys_differ_in_all_bits_and_those_of_equal_ones_in_none():
    hashevict = module("hashevict")
    vectors = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    same, opposite = (
        hashevict.hashes(vectors) ^ hashevict.hashes(other) for other in (vectors * 3, -vectors)
    )
    assert (same == 0).all()
    assert (opposite == -1).all()  # sixteen ones


def test_hashevict_reads_the_tokens_of_least_hamming_distance(layer):
    hashevict = module("hashevict")
    query, keys, _ = a_cache(layer)
    tokens, _ = chosen("hashevict", layer)
    planes = hashevict.planes(64)
    distance = ((query @ planes > 0).view(3, 3, 1, -1) != (keys @ planes > 0)[:, None]).sum((1, 3))  # [G, N]
    for head, mine in enumerate(heads_of(tokens)):
        others = [n for n in range(hashevict.SINKS, keys.shape[1] - hashevict.WINDOW) if n not in mine]
        inside = [n for n in mine if hashevict.SINKS <= n < keys.shape[1] - hashevict.WINDOW]
        assert distance[head, inside].max() <= distance[head, others].min()


def test_the_probability_of_two_collisions_is_that_of_drawn_tables():
    magicpig = module("magicpig")
    generator = torch.Generator().manual_seed(0)
    for share in (0.6, 0.8, 0.95):
        signs = torch.rand(200_000, magicpig.L, magicpig.K, generator=generator) < share
        found = (signs.all(-1).sum(-1) >= 2).float().mean()
        assert float(found) == pytest.approx(float(magicpig.collision(torch.tensor(share))), abs=0.005)


def test_tokens_of_magicpig_are_drawn_with_the_probability_that_is_told():
    magicpig = module("magicpig")
    weight = torch.rand(60, generator=torch.Generator().manual_seed(0)) ** 4 + 1e-3
    chances = magicpig.inclusion(weight, 12)
    assert float(chances.sum()) == pytest.approx(12, abs=1e-3)
    assert (chances <= 1).all()
    counts = torch.zeros(60)
    for seed in range(3_000):
        drawn = magicpig.drawn(chances, torch.Generator().manual_seed(seed))
        assert len(drawn) in (11, 12, 13)
        counts[drawn] += 1
    error = (chances * (1 - chances) / 3_000).sqrt() + 1e-4
    assert ((counts / 3_000 - chances).abs() < 5 * error).all()


def test_vattention_gives_the_head_with_the_wider_spread_the_larger_sample():
    vattention = module("vattention")
    counts = vattention.shared(torch.tensor([1.0, 4.0, 0.1]), 100, 5, 90)
    assert counts.tolist() == [19, 76, 5]
    assert vattention.shared(torch.tensor([1.0, 400.0, 1.0]), 100, 5, 60).tolist() == [20, 60, 20]


def test_vattention_estimates_the_denominator_without_bias(layer):
    query, keys, cache = a_cache(layer)
    weights = exact_weights(query, keys).flatten(0, 1)
    _, policy = prepared("vattention", layer)
    sums = []
    for seed in range(300):
        tokens, p = policy.select(query, cache, 0.2, torch.Generator().manual_seed(seed))
        found = weights.gather(1, tokens.clamp(min=0).long()) / p
        sums.append(found.masked_fill(tokens < 0, 0).sum(1))
    drawn = torch.stack(sums)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - 1).abs() < 5 * error + 0.01).all()


def test_no_score_of_a_page_is_above_its_bound_in_lserve(layer):
    lserve, policy = prepared("lserve", layer)
    query, keys, _ = a_cache(layer)
    low, high = (policy.bounds.read() * policy.scale.float()[:, None]).unbind(2)
    grouped = query.view(3, 3, -1)
    bound = grouped.clamp(min=0) @ high.transpose(1, 2) + grouped.clamp(max=0) @ low.transpose(1, 2)
    best = (grouped @ keys.transpose(1, 2))[..., : bound.shape[-1] * lserve.LOGICAL]
    assert (bound >= best.unflatten(-1, (-1, lserve.LOGICAL)).amax(-1) - 1e-3 * best.abs().amax()).all()


def test_a_choice_of_lserve_serves_four_steps(layer):
    lserve, policy = prepared("lserve", layer)
    query, keys, cache = a_cache(layer)
    choices = []
    for step in range(lserve.REUSED + 1):
        policy.append(keys[:, -1:])
        policy.select(query if step == 0 else -query, cache, 0.2, None)
        choices.append(policy.choice)
    assert all(torch.equal(choices[0], choice) for choice in choices[:-1])
    assert not torch.equal(choices[0], choices[-1])


@pytest.mark.parametrize(("name", "kept"), [("infllm_v2", "means"), ("lserve", "bounds")])
def test_what_grows_token_by_token_is_what_prefill_makes(name, kept, layer):
    _, whole = prepared(name, layer)
    _, keys, _ = a_cache(layer)
    _, grown = prepared(name, layer, tokens=keys.shape[1] - 70)
    for token in range(keys.shape[1] - 70, keys.shape[1]):
        grown.append(keys[:, token : token + 1])
    first, second = getattr(whole, kept).read().float(), getattr(grown, kept).read().float()
    assert first.shape == second.shape
    # scales come from what prefill has seen, so that bytes may differ by rounding
    assert (first - second).abs().mean() < 0.1 * first.abs().mean()


def test_spans_of_infllm_are_means_of_32_tokens_at_every_16th(layer):
    infllm, policy = prepared("infllm_v2", layer)
    _, keys, _ = a_cache(layer)
    means = policy.means.read() * policy.scale.float()
    for span in (0, 1, 7):
        exact = keys[:, span * infllm.STRIDE : span * infllm.STRIDE + infllm.SPAN].mean(1)
        assert torch.allclose(means[:, span], exact, atol=float(policy.scale.max()))


def test_all_heads_of_token_select_read_one_list_until_the_query_turns(layer):
    query, _, cache = a_cache(layer)
    _, policy = prepared("token_select", layer)
    first, _ = policy.select(query, cache, 0.1, None)
    assert (first == first[0]).all()
    vote = policy.voted
    policy.select(query * 1.5, cache, 0.1, None)
    assert torch.equal(policy.voted, vote)
    policy.select(-query, cache, 0.1, None)
    assert not torch.equal(policy.voted, vote)


@pytest.mark.parametrize("name", STATIC)
def test_a_choice_of_the_past_does_not_depend_on_the_query(name, layer):
    query, _, cache = a_cache(layer)
    lists = []
    for sign in (1, -1):
        _, policy = prepared(name, layer)
        lists.append(heads_of(policy.select(sign * query, cache, 0.1, None)[0]))
    assert [sorted(row) for row in lists[0]] == [sorted(row) for row in lists[1]]


def test_recycled_attention_reads_what_the_end_of_the_prompt_attended_to(layer):
    loaded, _ = prepared("recycled_attention", layer)
    _, keys, _ = a_cache(layer)
    last = prompt_queries(layer)[:, -loaded.LAST :]
    weights = exact_weights(last.reshape(-1, 64), keys).sum(1)[:, loaded.SINKS : -loaded.WINDOW]
    for head, row in enumerate(heads_of(chosen("recycled_attention", layer)[0])):
        older = [n - loaded.SINKS for n in row if loaded.SINKS <= n < keys.shape[1] - loaded.WINDOW]
        assert sorted(older) == sorted(weights[head].topk(len(older)).indices.tolist())


def test_half_of_h2o_is_the_newest_and_half_the_heaviest(layer):
    _, policy = prepared("h2o", layer)
    query, _, cache = a_cache(layer)
    order, mass = policy.heavy.read()[..., 0], policy.masses.read()[..., 0]
    assert (mass[:, :-1] >= mass[:, 1:]).all()
    for head, row in enumerate(heads_of(policy.select(query, cache, 0.1, None)[0])):
        newest = [n for n in row if n >= cache.length - len(row) // 2]
        assert len(newest) == len(row) // 2
        heavy = [n for n in order[head].tolist() if n < cache.length - len(row) // 2][
            : len(row) - len(newest)
        ]
        assert set(heavy) == set(row) - set(newest)


def test_what_h2o_has_dropped_does_not_come_back(layer):
    query, _, cache = a_cache(layer)
    _, policy = prepared("h2o", layer)
    before = policy.select(query, cache, 0.1, None)[0]
    for turn in range(3):
        after = policy.select(query.roll(turn + 1, 1), cache, 0.1, None)[0]
        for old, new in zip(heads_of(before), heads_of(after), strict=True):
            assert set(new) <= set(old) | set(range(cache.length - len(new) // 2, cache.length))
        before = after
    assert (policy.mass >= 0).all()


def test_scissorhands_keeps_what_was_most_often_above_the_mean(layer):
    _, policy = prepared("scissorhands", layer)
    _, keys, _ = a_cache(layer)
    positions = torch.arange(keys.shape[1] - 64, keys.shape[1])
    late = prompt_queries(layer)[:, -64:]
    scores = late.view(3, 3, 64, 64) @ keys[:, None].transpose(2, 3) / 8
    weights = scores.masked_fill(torch.arange(keys.shape[1]) > positions[:, None], -torch.inf).softmax(-1)
    often = (weights > 1 / (positions[:, None] + 1)).float().mean((1, 2))  # over the last queries only
    order = policy.order.read()[..., 0].long()
    kept, dropped = (often.gather(1, part).mean() for part in (order[:, :100], order[:, 200:]))
    assert kept > 5 * dropped


def test_hip_finds_the_heaviest_tokens_where_neighbours_are_alike():
    places = torch.linspace(0, 1, 512)
    peaks = torch.stack([torch.exp(-((places - peak) ** 2) / 0.02) for peak in (0.2, 0.5, 0.8)])  # [G, N]
    keys = peaks[:, :, None] * torch.ones(64) / 8
    cache = standalone.Cache(keys, keys, 9)
    hip = module("hip")
    tokens, _ = hip.Policy().select(torch.ones(9, 64) * 4, cache, 0.3, None)
    for head, row in enumerate(heads_of(tokens)):
        inside = [n for n in row if hip.SINKS <= n < 512 - hip.WINDOW]
        best = (peaks[head, hip.SINKS : 512 - hip.WINDOW].topk(len(inside)).indices + hip.SINKS).tolist()
        assert len(set(best) & set(inside)) > 0.9 * len(inside)


def test_all_parts_of_sale_estimate_scores_to_four_bits(layer):
    loaded, policy = prepared("sale", layer)
    _, keys, _ = a_cache(layer)
    packed = torch.cat([part.read() for part in policy.parts], 2)
    codes = ((packed[..., None] >> (loaded.BITS * torch.arange(loaded.PART))) & 15).flatten(2)
    channels = policy.channels.long()
    low, step = (part.float().gather(1, channels)[:, None] for part in (policy.low, policy.step))
    exact = keys.gather(2, channels[:, None].expand_as(keys))
    assert ((codes * step + low - exact)[:, loaded.SINKS :].abs() <= 0.51 * step + 1e-3).all()


def test_a_sign_of_specache_says_on_which_side_of_the_mean_a_channel_is(layer):
    loaded, policy = prepared("specache", layer)
    _, keys, _ = a_cache(layer)
    packed = torch.cat([part.read() for part in policy.parts], 2)
    signs = ((packed[..., None].long() >> torch.arange(loaded.PART)) & 1).flatten(2).bool()
    above = keys > policy.middle[:, None].float()
    assert torch.equal(signs, above.gather(2, policy.channels.long()[:, None].expand_as(keys)))


def test_the_basis_of_shadowkv_is_orthonormal_and_holds_most_of_the_keys(layer):
    _, policy = prepared("shadowkv", layer)
    _, keys, _ = a_cache(layer)
    basis, centred = policy.basis.float(), keys - keys.mean(1, keepdim=True)
    assert torch.allclose(basis.transpose(1, 2) @ basis, torch.eye(basis.shape[2]), atol=5e-3)
    held = (centred @ basis).square().sum((1, 2)) / centred.square().sum((1, 2))
    best = torch.linalg.svdvals(centred).square()
    most = best[:, : basis.shape[2]].sum(1) / best.sum(1)
    assert (held > 0.97 * most).all()


def test_landmarks_of_shadowkv_are_chunk_means_in_the_basis_whenever_they_were_made(layer):
    _, keys, _ = a_cache(layer)
    loaded, policy = prepared("shadowkv", layer, tokens=keys.shape[1] - 70)
    for token in range(keys.shape[1] - 70, keys.shape[1]):
        policy.append(keys[:, token : token + 1])
    means = keys.unflatten(1, (-1, loaded.CHUNK)).mean(2)
    error = policy.marks.read() * policy.scale.float() - (
        (means - policy.centre.float()) @ policy.basis.float()
    )
    assert policy.marks.length == means.shape[1]
    assert (error.abs() <= 0.6 * policy.scale.float() + 0.02).float().mean() > 0.99  # new ones may be cut off


def test_outlier_chunks_of_shadowkv_are_always_read(layer):
    loaded, policy = prepared("shadowkv", layer)
    query, _, cache = a_cache(layer)
    for head, row in enumerate(heads_of(policy.select(query, cache, 0.2, None)[0])):
        for chunk in policy.outliers[head].tolist():
            assert set(range(chunk * loaded.CHUNK, (chunk + 1) * loaded.CHUNK)) <= set(row)


def test_codewords_of_a2ats_keep_scores_better_than_those_chosen_by_distance(layer):
    _, policy = prepared("a2ats", layer)
    _, keys, _ = a_cache(layer)
    queries = prompt_queries(layer).view(3, -1, 64)
    codes = policy.codes.read().float()
    labels = policy.labels.read()[..., 0].long()
    nearest = torch.cdist(keys, codes).argmin(-1)
    lost = []
    for chosen_codes in (labels, nearest):
        replaced = codes.gather(1, chosen_codes[..., None].expand_as(keys))
        lost.append(float(((keys - replaced) @ queries.transpose(1, 2)).square().mean()))
    assert lost[0] < lost[1]


def test_heads_of_flexprefill_read_until_the_same_share_is_reached(layer):
    tokens, _ = chosen("flexprefill", layer, 0.2)
    counts = [len(row) for row in heads_of(tokens)]
    assert len(set(counts)) > 1
    assert sum(counts) <= 0.2 * 3 * a_cache(layer)[1].shape[1]


def test_learned_signs_find_more_of_the_heaviest_tokens_than_random_ones(layer):
    query, keys, _ = a_cache(layer)
    weights = exact_weights(query, keys).sum(1)
    found = {}
    for name in ("hash_attention", "simhash", "hashevict"):
        rows = heads_of(chosen(name, layer)[0])
        inside = [[n for n in row if 4 <= n < keys.shape[1] - 16] for row in rows]
        true = [(weights[g, 4:-16].topk(len(row)).indices + 4).tolist() for g, row in enumerate(inside)]
        found[name] = sum(len(set(a) & set(b)) for a, b in zip(inside, true, strict=True))
    assert found["hash_attention"] > 1.3 * max(found["simhash"], found["hashevict"])


def test_duo_attention_gives_the_head_that_loses_most_the_longest_window(layer):
    _, policy = prepared("duo_attention", layer)
    rows = heads_of(chosen("duo_attention", layer, 0.2)[0])
    lengths = torch.tensor([len(row) for row in rows])
    gates = policy.gates.float()
    for one, other in itertools.combinations(range(3), 2):
        assert (gates[one] - gates[other]) * (lengths[one] - lengths[other]) >= 0
    assert all(row[:4] == [0, 1, 2, 3] for row in rows)


def test_razor_attention_reads_far_back_in_retrieval_heads_and_stands_in_for_the_rest(layer):
    _, policy = prepared("razor_attention", layer)
    tokens, probability = chosen("razor_attention", layer, 0.2)
    lengths = [len(row) for row in heads_of(tokens)]
    assert lengths.index(max(lengths)) == int(policy.far.float().argmax())
    kept = probability.masked_fill(tokens < 0, torch.inf)
    stood_for = (1 / kept).sum(1)
    assert torch.allclose(stood_for, torch.full_like(stood_for, a_cache(layer)[1].shape[1]), rtol=0.01)
