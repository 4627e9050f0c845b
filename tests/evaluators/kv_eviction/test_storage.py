"""Bytes are counted number by number, as many tokens stay as fit, and what is read is what was stored."""

import numpy as np
import pytest
import torch

from evaluators.evaluation import CandidateError
from evaluators.kv_eviction.compression import Tokens, Written, compressed, plain_bytes, planned
from evaluators.kv_eviction.reference import head_bytes
from evaluators.kv_eviction.storage import (
    Format,
    Tier,
    between,
    checked_format,
    lengthened,
    quantised,
    read_again,
    shared_bytes,
    thinned,
)

FORMATS = {
    "plain": Format(),
    "tiers": Format(tiers=(Tier(0.4, 4, 4), Tier(0.35, 2, 2), Tier(0.25))),
    "channels": Format(key_channels=0.6),
    "thin": Format(key_density=0.5, value_density=0.3),
    "repaired": Format(tiers=(Tier(1.0, 2, 4),), rank=4, outliers=0.05),
    "counted": Format(counts=True),
    "all": Format((Tier(0.5, 8, 16), Tier(0.5, 4, 2)), 0.5, 0.5, 0.5, 2, 0.1, True),
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("state", [0, 3])
def test_bytes_are_those_of_the_reference(form, state):
    for tokens in (1, 7, 100):
        assert form.bytes(tokens, 64, state) == pytest.approx(head_bytes(form, tokens, 64, state))


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_as_many_tokens_stay_as_fit(form):
    for available in (2_000.0, 10_000.0, 77_777.7):
        tokens = form.fitting(available, 64, 1)
        assert form.bytes(tokens, 64, 1) <= available
        assert form.bytes(tokens + 2, 64, 1) > available  # rounding of the tiers may hide one


def test_bytes_are_shared_out_by_weights_within_their_bounds():
    weights, low, high = np.array([1.0, 2.0, 5.0]), np.array([5.0, 5.0, 5.0]), np.array([90.0, 90.0, 60.0])
    shares = shared_bytes(weights, low, high, 120.0)
    assert shares.sum() == pytest.approx(120)
    assert shares[2] == 60
    assert shares[1] == pytest.approx(2 * shares[0])
    assert shared_bytes(np.array([1e-9, 1.0, 1.0]), low, high, 20.0)[0] == 5


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_quantised_number_is_off_by_half_a_step_at_most(bits):
    vectors = torch.randn(50, 64, generator=torch.Generator().manual_seed(1))
    found = quantised(vectors, bits, 0, 0)
    scales = vectors.abs().amax(0).sqrt().half().float()
    even = vectors / scales
    step = (even.amax(1, keepdim=True) - even.amin(1, keepdim=True)) / (2**bits - 1)
    assert ((found - vectors).abs() <= (step / 2 * 1.02 + 2e-3) * scales).all()
    for row in (0, 17):  # of a vector there are no more values than its bits can tell apart
        assert len(torch.unique((found / scales)[row].mul(1e3 / 4).round())) <= 2**bits


def test_outliers_stay_exact_and_a_rank_repairs():
    vectors = torch.randn(80, 32, generator=torch.Generator().manual_seed(2))
    vectors[:, 3] *= 30
    plain, exact, repaired = (quantised(vectors, 2, *extra) for extra in ((0, 0), (2, 0), (0, 4)))
    errors = [float((found - vectors).norm()) for found in (plain, exact, repaired)]
    assert errors[1] < errors[0]
    assert errors[2] < errors[0]
    places = (vectors / vectors.abs().amax(0).sqrt()).abs().topk(2, 1).indices
    assert torch.allclose(exact.gather(1, places), vectors.gather(1, places), rtol=2e-3)


def test_thin_vectors_keep_their_largest_numbers():
    vectors = torch.randn(9, 40, generator=torch.Generator().manual_seed(3))
    thin = thinned(vectors, 0.25)
    assert ((thin != 0).sum(1) == 10).all()
    for row, left in zip(vectors, thin, strict=True):
        assert row.abs()[left != 0].min() >= row.abs()[left == 0].max()
    assert torch.equal(thinned(vectors, 1.0), vectors)


def test_the_best_tokens_are_in_the_first_tier():
    vectors = torch.randn(20, 16, generator=torch.Generator().manual_seed(4)).half().float()
    ranks = torch.randperm(20, generator=torch.Generator().manual_seed(5))
    form = Format(tiers=(Tier(0.5), Tier(0.5, 2, 2)))
    found = read_again(vectors, ranks, form, 1.0, [16, 2])
    exact = (found == vectors).all(1)
    assert exact[ranks < 10].all()
    assert not exact[ranks >= 10].any()
    assert torch.equal(read_again(vectors, ranks, Format(), 1.0, [16]), vectors)


def test_a_pair_has_one_direction_and_two_lengths():
    first, second = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(6))
    one = between(first, second, 0.6)
    other = lengthened(one, second)
    assert torch.allclose(one.norm(dim=1), first.norm(dim=1), rtol=2e-3)
    assert torch.allclose(other.norm(dim=1), second.norm(dim=1), rtol=2e-3)
    cosine = torch.nn.functional.cosine_similarity
    assert torch.allclose(cosine(one, other), torch.ones(30), atol=1e-5)
    whole, part = cosine(first, second).arccos(), cosine(first, one).arccos()
    assert torch.allclose(part, 0.6 * whole, atol=2e-2)


def a_layer(seed: int) -> Tokens:
    keys, values = torch.randn(2, 2, 40, 16, generator=torch.Generator().manual_seed(seed))
    return Tokens(keys.half().float(), values.half().float(), np.tile(np.arange(40), (2, 1)))


def compressed_pair(*formats: Format) -> list[Tokens]:
    layers = [a_layer(number) for number in range(len(formats))]
    scores = [np.random.default_rng(number).random((2, 40), np.float32) for number in range(len(formats))]
    weights = np.ones((len(formats), 2))
    plan = planned(layers, scores, weights, formats, 0.5 * len(formats) * 2 * plain_bytes(40, 16))
    return compressed(layers, plan, [Written()] * len(formats))


def levels(vector: torch.Tensor, among: torch.Tensor) -> int:
    """How many values a vector has, where each channel was divided by the root of its largest magnitude."""
    scales = among.abs().amax(0).sqrt().half().float()
    return 1 + int((((vector / scales).sort().values.diff()) > 0.02).sum())


def test_what_a_pair_shares_is_stored_with_the_bits_that_are_paid_for():
    coarse = Format(tiers=(Tier(1.0, 2, 2),))
    first, second = compressed_pair(coarse, Format(pair=0.5))
    fine, _ = compressed_pair(Format(), Format(pair=0.5))
    assert np.array_equal(first.positions, second.positions)
    cosine = torch.nn.functional.cosine_similarity(first.keys[0], second.keys[0], dim=-1)
    assert torch.allclose(cosine, torch.ones_like(cosine), atol=1e-4)
    joint = between(a_layer(0).keys[0], a_layer(1).keys[0], 0.5)
    places = torch.from_numpy(first.positions[0])
    assert all(levels(row, joint[places]) <= 4 for row in first.keys[0])
    kept = torch.from_numpy(fine.positions[0])
    assert torch.allclose(fine.keys[0], joint[kept], atol=2e-3)


def test_a_layer_that_cannot_be_paired_is_stored_as_its_format_says():
    coarse = Format(tiers=(Tier(1.0, 2, 2),), pair=0.5)
    (alone,) = compressed_pair(coarse)
    assert not torch.allclose(alone.keys, a_layer(0).keys, atol=0.05)
    assert all(levels(row, a_layer(0).keys[0]) <= 4 for row in alone.keys[0])


@pytest.mark.parametrize(
    ("tiers", "settings", "said"),
    [
        ([[1, 3, 16]], [1, 1, 1, 0, 0, 0, 0], "bits"),
        ([[-1, 4, 4]], [1, 1, 1, 0, 0, 0, 0], "shares"),
        ([], [1, 1, 1, 0, 0, 0, 0], "tiers"),
        ([[1, 4, 4]], [0, 1, 1, 0, 0, 0, 0], "key_channels"),
        ([[1, 4, 4]], [1, 1, 2, 0, 0, 0, 0], "value_density"),
        ([[1, 4, 4]], [1, 1, 1, 2.5, 0, 0, 0], "rank"),
        ([[1, 4, 4]], [1, 1, 1, 0, 0.9, 0, 0], "outliers"),
        ([[1, 4, 4]], [1, 1, float("nan"), 0, 0, 0, 0], "finite"),
    ],
)
def test_a_format_that_is_none_is_refused(tiers, settings, said):
    with pytest.raises(CandidateError, match=said):
        checked_format(np.array(tiers, np.float64), np.array(settings, np.float64))
