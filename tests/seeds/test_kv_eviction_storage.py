"""Seeds of kv_eviction that need no attention, merge, quantise or prune: each does what its paper says."""

import math

import pytest
import torch

from evaluators.kv_eviction.layer import Layer
from tests.seeds.eviction import (
    LAYERS,
    causal_attention,
    kept,
    observed,
    policy,
    program,
    prompt,
)

EVICTING = ("lagkv", "knorm", "expected_attention", "keydiff", "lazy_eviction", "hash_evict")
MERGING = ("ems", "chelsea")
STORING = ("think", "gear", "zipcache", "minicache", "mustafar")


def grouped(weights: torch.Tensor, layer: Layer) -> torch.Tensor:
    """Means [G, n] of weights [H, n] over the heads of a group."""
    return weights.view(layer.kv_heads, -1, weights.shape[-1]).mean(1)


def cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(first[..., :, None, :], second[..., None, :, :], dim=-1)


# What needs no attention


def test_lagkv_ranks_tokens_in_their_partition_by_how_much_they_leave_the_range_of_the_next():
    lag, layer = program("lagkv"), prompt(14)
    scores = lag["Policy"]().score(layer)
    start, size = lag["SINKS"] + lag["LAG"], lag["LAG"]  # the second partition
    spreads = torch.zeros(size)
    for states in (layer.keys[1], layer.values[1]):
        after = states[start + size : start + 2 * size]
        of_states = []
        for token in states[start : start + size]:
            scaled = [
                float((token[c] - after[:, c].min()) / (after[:, c].max() - after[:, c].min()))
                for c in range(64)
            ]
            mean = sum(scaled) / 64
            of_states.append(math.sqrt(sum((value - mean) ** 2 for value in scaled) / 63))
        spreads += torch.tensor(of_states).softmax(0)
    order = scores[1, start : start + size].argsort(descending=True)
    assert (spreads[order][:-1] >= spreads[order][1:] - 1e-6).all()


def test_lagkv_keeps_as_many_of_each_partition_and_all_of_the_newest():
    lag = program("lagkv")
    places = kept(lag["Policy"]().score(prompt(0)), 400)
    sinks, size = lag["SINKS"], lag["LAG"]
    for head in places:
        counts = [((head - sinks) // size == part).sum() for part in range(6)]
        assert max(counts) - min(counts) <= 1
        assert set(range(sinks)) | set(range(sinks + 6 * size, 992)) <= set(head.tolist())


def test_short_keys_stay():
    layer = prompt(14)
    places = kept(policy("knorm").score(layer), 100)
    for head, chosen in enumerate(places.tolist()):
        norms = [math.sqrt(sum(float(x) ** 2 for x in key)) for key in layer.keys[head]]
        dropped = [norm for token, norm in enumerate(norms) if token not in chosen]
        assert max(norms[token] for token in chosen) <= min(dropped) + 1e-4


def test_expected_attention_is_the_mean_weight_of_gaussian_queries():
    layer = prompt(14)
    layer.query_covariance = layer.query_covariance / 10  # so that a mean of exponentials is found by drawing
    generator = torch.Generator().manual_seed(0)
    head, expected = 4, policy("expected_attention")  # of group 1, whose other heads get its moments
    for other in (3, 5):
        layer.query_mean[other] = layer.query_mean[head]
        layer.query_covariance[other] = layer.query_covariance[head]
    root = torch.linalg.cholesky(layer.query_covariance[head].double() + 1e-6 * torch.eye(64))
    drawn = (
        torch.randn(40_000, 64, generator=generator, dtype=torch.float64) @ root.T + layer.query_mean[head]
    )
    inside = slice(4, 150)
    weights = (drawn @ layer.keys[1, inside].double().T / 8).exp().mean(0) * layer.values[1, inside].norm(
        dim=1
    )
    scores = expected.score(layer)[1, inside].double()
    assert torch.allclose(scores / scores.sum(), weights / weights.sum(), rtol=0.1)


def test_keys_that_keydiff_keeps_are_less_alike_than_those_it_drops():
    for number in LAYERS:
        layer = prompt(number)
        order = policy("keydiff").score(layer).argsort(descending=True)
        for keys, row in zip(layer.keys, order, strict=True):
            first, last = keys[row[:100]], keys[row[-100:]]
            assert cosines(first, first).mean() < cosines(last, last).mean() - 0.05


def test_hashes_are_equal_in_all_bits_for_one_direction_and_in_none_for_the_opposite():
    hashes = program("hash_evict")["hashes"]
    vectors = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(hashes(vectors), hashes(vectors * 3))
    assert torch.equal(hashes(vectors), ~hashes(-vectors))


def test_hash_evict_keeps_the_least_hamming_distances_and_both_ends():
    hashed, layer = program("hash_evict"), prompt(14)
    bits_of_keys, bits_of_query = hashed["hashes"](layer.keys), hashed["hashes"](layer.queries[:, -1])
    places = kept(hashed["Policy"]().score(layer), 200).tolist()
    fixed = [*range(hashed["SINKS"]), *range(992 - hashed["RECENT"], 992)]
    for head, chosen in enumerate(places):
        assert set(fixed) <= set(chosen)
        distance = [
            sum(int((bits_of_query[3 * head + h] != bits).sum()) for h in range(3))
            for bits in bits_of_keys[head]
        ]
        dropped = [distance[token] for token in range(992) if token not in chosen]
        assert max(distance[token] for token in chosen if token not in fixed) <= min(dropped)


# What is remembered of attention


def test_lazy_eviction_remembers_the_last_activity_and_the_longest_pause():
    lazy = program("lazy_eviction")
    observer, layer = observed("lazy_eviction", 14)
    attention, block = causal_attention(14), lazy["BLOCK"]
    pauses = []
    for token in range(0, 192, 3):
        last, pause = token // block + 1, 0
        for number in range(token // block, 4):
            rows = range(max(token, number * block), (number + 1) * block)
            often = sum(
                float(attention[head, row, token] > 1 / (row + 1)) for head in (0, 1, 2) for row in rows
            )
            if often / (3 * len(rows)) >= lazy["ACTIVE"]:
                last, pause = number + 1, max(pause, number + 1 - last)
        assert layer.state[0, token].tolist() == [last, pause]
        pauses.append(pause)
    assert len(set(pauses)) > 2  # some tokens pause and come back
    assert (observer.score(layer)[:, -block:] == torch.inf).all()


def test_a_token_that_paused_before_outlasts_one_that_did_not():
    _, layer = observed("lazy_eviction", 14)
    layer.state[0, :4] = torch.tensor([[2.0, 2.0], [2.0, 1.0], [2.0, 0.0], [1.0, 0.0]])
    scores = policy("lazy_eviction").score(layer)[0, :4].tolist()
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


@pytest.mark.parametrize("number", LAYERS)
def test_saliency_of_zipcache_is_attention_divided_by_the_queries_that_saw_a_token(number):
    observer, layer = observed("zipcache", number)
    attention = causal_attention(number)
    exact = torch.stack([attention[:, token:, token].mean(1) for token in range(256)], 1)
    assert torch.allclose(observer.score(layer), grouped(exact, layer), rtol=0.01, atol=1e-6)


def test_ems_adds_what_is_attended_everywhere_to_what_is_attended_now():
    observer, layer = observed("ems", 14)
    local = program("ems")["LOCAL"]
    attention = causal_attention(14)
    parts = [
        grouped(torch.stack([attention[:, token:, token].mean(1) for token in range(256)], 1), layer),
        grouped(attention[:, -local:].mean(1), layer),
    ]
    expected = sum(part / part.sum(1, keepdim=True) for part in parts)
    scores = observer.score(layer)
    assert torch.allclose(scores[:, :-local], expected[:, :-local], rtol=0.01, atol=1e-6)
    assert (scores[:, -local:] == torch.inf).all()


# What is merged


def test_ems_merges_the_next_tokens_into_the_most_similar_kept_one_and_no_others():
    ems, (merger, layer) = program("ems"), observed("ems", 14)
    count = 64
    places = kept(merger.score(layer), count)
    keys, values, counts = merger.merge(layer, places)
    assert counts is None
    moved = 0
    for head, chosen in enumerate(places.tolist()):
        weight = ems["importance"](layer)[head].tolist()
        others = sorted((token for token in range(256) if token not in chosen), key=lambda t: -weight[t])
        members = {place: [place] for place in chosen}
        for token in others[:count]:
            similar = cosines(layer.keys[head, [token]], layer.keys[head, chosen])[0]
            if similar.max() >= ems["SIMILAR"]:
                members[chosen[int(similar.argmax())]].append(token)
                moved += 1
        for slot, place in enumerate(chosen):
            share = torch.tensor([weight[token] for token in members[place]])
            share = share[:, None] / share.sum()
            for states, merged in ((layer.keys, keys), (layer.values, values)):
                mean = (states[head, members[place]] * share).sum(0)
                assert torch.allclose(merged[head, slot], mean, atol=1e-4)
    assert 0 < moved < 3 * count  # some are merged, and some are like none


def test_a_round_of_chelsea_halves_a_chunk_and_the_most_similar_leave_first():
    chelsea, layer = program("chelsea"), prompt(14)
    scores = chelsea["Policy"]().score(layer)
    for head in range(3):
        for start in (64, 448):
            chunk = layer.keys[head, start : start + 64]
            similar = cosines(chunk[1::2], chunk[::2]).amax(1)
            odd, even = scores[head, start + 1 : start + 64 : 2], scores[head, start : start + 64 : 2]
            assert odd.max() < even.min()
            order = odd.argsort()
            assert (similar[order][:-1] >= similar[order][1:] - 1e-5).all()


def test_centroids_of_chelsea_are_means_of_the_tokens_that_they_count():
    chelsea, layer = program("chelsea"), prompt(14)
    merger = chelsea["Policy"]()
    places = kept(merger.score(layer), 248)
    keys, values, counts = merger.merge(layer, places)
    fixed = [*range(chelsea["SINKS"]), *range(992 - chelsea["RECENT"], 992)]
    for head, chosen in enumerate(places.tolist()):
        members = {place: [place] for place in chosen}
        for token in sorted(set(range(992)) - set(chosen)):
            near = [p for p in chosen if p // 64 == token // 64 and p not in fixed]
            if near:
                similar = cosines(layer.keys[head, [token]], layer.keys[head, near])[0]
                members[near[int(similar.argmax())]].append(token)
        assert counts[head].tolist() == [len(members[place]) for place in chosen]
        for slot, place in enumerate(chosen):
            assert torch.allclose(keys[head, slot], layer.keys[head, members[place]].mean(0), atol=1e-4)
            assert torch.allclose(values[head, slot], layer.values[head, members[place]].mean(0), atol=1e-4)
    assert counts.sum(1).min() > 0.95 * 992


@pytest.mark.parametrize("number", LAYERS)
def test_counted_centroids_come_closer_to_attention_than_what_is_left_without_merging(number):
    merger, layer = policy("chelsea"), prompt(number)
    places = kept(merger.score(layer), 248)
    keys, values, counts = merger.merge(layer, places)
    queries = layer.queries[:, -1:].view(3, 3, 64)
    rows = torch.arange(3)[:, None]

    def output(keys, values, bias):
        return (queries @ keys.transpose(1, 2) / 8 + bias).softmax(-1) @ values

    exact = output(layer.keys, layer.values, 0)
    left = output(layer.keys[rows, places], layer.values[rows, places], 0)
    merged = output(keys, values, counts.log()[:, None])
    assert (merged - exact).norm() < (left - exact).norm()


# How tokens are stored


def test_channels_of_think_lose_less_of_the_scores_than_the_smallest_ones_of_the_keys():
    thin = program("think")
    for number in LAYERS:
        layer = prompt(number)
        importance = thin["Policy"]().channels(layer)
        count = int(thin["KEPT_CHANNELS"] * 64)
        lost = []
        for ranking in (importance, layer.keys.norm(dim=1), layer.keys.mean(1).abs()):
            dropped = ranking.argsort(descending=True)[:, count:]
            error = 0.0
            for head, channels in enumerate(dropped):
                queries = layer.queries[3 * head : 3 * head + 3, -thin["WINDOW"] :, channels]
                error += float((queries @ layer.keys[head][:, channels].T).square().mean())
            lost.append(error)
        assert lost[0] <= min(lost[1:])


def test_importance_of_a_channel_is_the_product_of_two_norms():
    thin, layer = program("think"), prompt(14)
    importance = thin["Policy"]().channels(layer)
    for head, channel in ((0, 0), (2, 17)):
        of_queries = sum(
            float(layer.queries[h, w, channel]) ** 2
            for h in range(3 * head, 3 * head + 3)
            for w in range(64 - thin["WINDOW"], 64)
        )
        of_keys = sum(float(x) ** 2 for x in layer.keys[head, :, channel])
        assert float(importance[head, channel]) == pytest.approx(math.sqrt(of_queries * of_keys), rel=1e-4)


@pytest.mark.parametrize("name", ["gear", "mustafar", "minicache"])
def test_what_stays_where_nothing_is_published_is_what_the_newest_queries_attend_to(name):
    layer = prompt(14)
    weight = grouped(layer.attention.mean(1), layer)
    recent, sinks = program(name)["RECENT"], program(name).get("SINKS", 0)
    for head, chosen in enumerate(kept(policy(name).score(layer), 300).tolist()):
        assert {*range(sinks), *range(992 - recent, 992)} <= set(chosen)
        inside = [token for token in chosen if sinks <= token < 992 - recent]
        dropped = [token for token in range(992) if token not in chosen]
        assert weight[head, inside].min() >= weight[head, dropped].max()


def bytes_of_token(format: dict, size: int) -> float:
    """By the interface: of one token of one head, without what is stored once for a head."""
    quantised = [(share, key + value) for share, key, value in format.get("tiers", [(1.0, 16, 16)])]
    row = sum(share * (size * bits / 8 + (8 if bits < 32 else 0)) for share, bits in quantised)
    row -= 2 * size * (1 - format.get("key_channels", 1))
    for part in ("key_density", "value_density"):
        if part in format:
            row += size / 8 - 2 * size * (1 - format[part])
    row += 2 * 2 * format.get("rank", 0)
    row += 2 * size * 4 * format.get("outliers", 0)
    return 4 if "pair" in format else row


def test_formats_take_the_bytes_that_their_papers_promise():
    layer = prompt(14)
    taken = {name: bytes_of_token(policy(name).format(layer, 0.25), 64) / 256 for name in STORING}
    assert taken["think"] == pytest.approx(0.8)  # "over 20% less"
    assert taken["gear"] < 0.4  # four bits and what repairs them
    assert taken["zipcache"] < 0.24  # so that a quarter holds all tokens, with what is remembered
    assert taken["mustafar"] <= 0.45  # "down to 45% of dense"


def test_pairs_of_minicache_lie_in_the_deep_half_and_all_layers_hold_as_many_tokens():
    mini, layer = policy("minicache"), prompt(14)
    scores = [mini.score(layer) for _ in range(30)]
    shares = mini.allocate(scores, 0.125)
    assert shares.shape == (30, 3)
    rows, paired = [], []
    for index in range(30):
        layer.index = index
        stored = mini.format(layer, 0.125)
        rows.append(bytes_of_token(stored, 64))
        if "pair" in stored:
            paired.append(index)
    assert paired == list(range(16, 30, 2))
    tokens = shares / torch.tensor(rows)[:, None]
    assert torch.allclose(tokens, tokens[0, 0].expand_as(tokens))
    assert sum(rows) / 30 < 0.25 * 256  # a quarter of the bytes holds all tokens


def test_the_largest_numbers_hold_most_of_a_vector():
    """The claim of Mustafar, of keys and values as they are, at the density of the seed."""
    stored = policy("mustafar").format(prompt(14), 0.25)
    for number in LAYERS:
        layer = prompt(number)
        for states, density in ((layer.keys, "key_density"), (layer.values, "value_density")):
            square = states.square().sort(-1, descending=True).values
            held = square[..., : round(stored[density] * 64)].sum() / square.sum()
            assert held > 0.65
