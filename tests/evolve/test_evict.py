"""Operators on eviction policies: what they make is what they say."""

import re
from functools import partial

import pytest
import torch

from evaluators.kv_eviction.language import LANGUAGE
from evaluators.problem import get_problem
from evaluators.program import load
from evolve.builtin.evict import BLENDS, CHANGES, SHARES, blend_scores, graft, rescore, share_bytes, store
from evolve.builtin.syntax import methods, parse
from evolve.streams import stream
from sandbox.screen import screen
from tests.seeds.eviction import prompt

SEEDS = {seed.name: seed.source for seed in get_problem("kv_eviction").seeds() if seed.role != "bound"}


def drafts(operator, first: str, second: str = "knorm", wanted: str = "", many: int = 40) -> list[str]:
    """Programs that an operator makes of two seeds, those that have a pattern."""
    module, other = parse(SEEDS[first]), parse(SEEDS[second])
    made = (operator(module, (other,), stream(0, number, "test")) for number in range(many))
    found = [one.code for one in made if one is not None and re.search(wanted, one.code)]
    assert found
    assert not any(screen(one, LANGUAGE) for one in found)
    return found


def scores(source: str, number: int = 14, layer=None) -> torch.Tensor:
    return load(source, LANGUAGE)["Policy"]().score(layer or prompt(number))


def constants(source: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^([A-Z_0-9]+) = ([\d.]+)$", source, re.M)}


def test_every_form_is_drawn():
    changed = "".join(drafts(rescore, "tova"))
    assert all(name in changed for _, ranges in CHANGES for name in ranges)
    blended = "".join(drafts(blend_scores, "tova", "keydiff"))
    assert all(name in blended for _, ranges in BLENDS for name in ranges)
    shared = "".join(drafts(share_bytes, "tova"))
    assert all(name in shared for _, ranges in SHARES for name in ranges)


def test_protected_tokens_stay_protected_whatever_is_done_to_scores():
    for source in drafts(rescore, "snapkv"):
        assert torch.isinf(scores(source)[:, -64:]).all()
        assert not torch.isinf(scores(source)).all()


def test_first_and_newest_tokens_are_protected_where_it_says_so():
    source = drafts(rescore, "knorm", wanted="SINKS = ")[0]
    found, known = scores(source), constants(source)
    sinks, newest = int(known["SINKS"]), int(known["NEWEST"])
    assert torch.isinf(found).sum() == 3 * (sinks + newest)
    assert torch.isinf(found[:, :sinks]).all()
    assert torch.equal(found[:, sinks:-newest], scores(SEEDS["knorm"])[:, sinks:-newest])


def test_pieces_have_the_mean_of_their_tokens():
    source = drafts(rescore, "knorm", wanted="PIECE = ")[0]
    size = int(constants(source)["PIECE"])
    found, plain = scores(source), scores(SEEDS["knorm"])
    assert torch.allclose(found[:, :size], plain[:, :size].mean(1, keepdim=True).expand(-1, size))
    assert torch.allclose(found[1, -1], plain[1, 992 - (992 % size or size) :].mean())


@pytest.mark.parametrize("pattern", ["WEIGHT", "HANDICAP", "LIKELY"])
def test_a_blend_ranks_tokens_by_both(pattern):
    source = drafts(blend_scores, "tova", "keydiff", wanted=f"{pattern} = ")[0]
    value = constants(source)[pattern]
    one, other = (
        scores(SEEDS[name]).argsort(dim=1, stable=True).argsort(dim=1, stable=True) / 992
        for name in ("tova", "keydiff")
    )
    expected = {
        "WEIGHT": one + value * other,
        "HANDICAP": torch.maximum(one, other - value),
        "LIKELY": torch.where(one > value, one + 1, other),
    }
    assert torch.allclose(scores(source), expected[pattern])


def test_early_layers_are_scored_by_one_policy_and_late_ones_by_the_other():
    source = drafts(blend_scores, "tova", "keydiff", wanted="EARLY = ")[0]
    for index, name in ((0, "tova"), (29, "keydiff")):
        layer, own = prompt(14), prompt(14)
        layer.index = own.index = index
        assert torch.equal(
            scores(source, layer=layer).argsort(dim=1, stable=True),
            scores(SEEDS[name], layer=own).argsort(dim=1, stable=True),
        )


def test_what_is_remembered_of_tokens_comes_along_and_two_memories_do_not_mix():
    assert all("def observe" in one for one in drafts(blend_scores, "tova", "h2o"))
    module, other = (parse(SEEDS[name]) for name in ("scissorhands", "h2o"))
    assert all(blend_scores(module, (other,), stream(0, n, "test")) is None for n in range(20))


def test_a_graft_takes_storage_shares_or_merging():
    for donor, wanted in (("think", "def channels"), ("adakv", "def allocate"), ("zipcache", "def format")):
        for source in drafts(graft, "knorm", donor):
            assert wanted in source
    for source in drafts(graft, "knorm", "chelsea"):
        assert "def merge" in source
        assert '"counts": True' in source
    # what cake reads on `self` is written by its score alone
    module = parse(SEEDS["knorm"])
    assert all(graft(module, (parse(SEEDS["cake"]),), stream(0, n, "test")) is None for n in range(20))


def test_formats_and_shares_are_what_the_interface_allows():
    bits = set()
    for source in drafts(partial(store), "razor_attention"):
        policy = load(source, LANGUAGE)["Policy"]()
        for budget in (0.25, 0.125):
            form = policy.format(prompt(14), budget)
            bits |= {width for tier in form["tiers"] for width in tier[1:]}
            assert sum(tier[0] for tier in form["tiers"]) == pytest.approx(1)
            if budget < 0.2:
                assert form["counts"] is True  # its merge gives counts
    assert bits <= {2, 4, 8, 16}
    assert len(bits) > 2
    for source in drafts(share_bytes, "snapkv"):
        policy = load(source, LANGUAGE)["Policy"]()
        layers = [policy.score(prompt(number)) for number in (0, 14, 27)]
        shares = torch.as_tensor(policy.allocate(layers, 0.25))
        assert shares.shape == (3, 3)
        assert (shares > 0).all()


def test_a_format_that_needs_counts_comes_with_a_merge():
    for source in drafts(graft, "knorm", "razor_attention"):
        if '"counts"' in source:
            assert "merge" in methods(parse(source))
