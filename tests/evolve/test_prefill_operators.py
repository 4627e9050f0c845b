"""Composition of prefill policies: what `switch` and `specialise` promise of them."""

import re

import numpy as np
import pytest

from evaluators.prefill_selection.actor import open_actor
from evaluators.prefill_selection.examination import Examination
from evaluators.prefill_selection.judge import open_judge
from evaluators.problem import get_problem
from evolve.builtin.allot import allotment
from evolve.builtin.hand_over import divisions, hand_over
from evolve.builtin.specialise import specialise
from evolve.builtin.switch import switch
from evolve.builtin.syntax import parse
from evolve.streams import stream
from sandbox.screen import screen

PROBLEM = get_problem("prefill_selection")
SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds() if seed.role != "bound"}


@pytest.fixture(scope="module")
def examine():
    """Plays a policy's source through a stage."""
    actor, judge = open_actor(), open_judge(**PROBLEM.inputs(None).arguments)

    def examine(source: str, stage: str) -> Examination:
        assert not screen(source, PROBLEM.language)
        examination = judge.examine(stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        return examination

    return examine


@pytest.fixture(scope="module")
def played(examine):
    """The columns that a policy's source computes in the second probe, by layer and budget."""

    def columns(source: str) -> dict[tuple[int, int], np.ndarray]:
        examination = examine(source, "second_probe")
        return {
            (layer, budget): decisions[0].columns
            for (_, layer, budget), decisions in examination.played.items()
        }

    return columns


def drafts(operator, first: str, second: str, condition: str, wanted: int = 3) -> list[str]:
    """Programs that an operator makes of two seeds, whose condition matches."""
    module, other = parse(SEEDS[first]), parse(SEEDS[second])
    made = (operator(module, (other,), stream(0, number, "test")) for number in range(60))
    found = [one.code for one in made if one is not None and re.search(condition, one.code)]
    assert len(found) >= wanted
    return found[:wanted]


def test_a_switch_by_layer_decides_in_the_first_as_one_parent_and_elsewhere_as_the_other(played):
    source = drafts(switch, "anchor_attention", "a_shape", r"if block\.layer < FIRST_LAYERS", wanted=1)[0]
    own, other = played(SEEDS["anchor_attention"]), played(SEEDS["a_shape"])
    for (layer, budget), columns in played(source).items():
        assert np.array_equal(columns, (other if layer == 0 else own)[layer, budget])


def test_two_policies_that_look_at_the_end_of_the_prompt_both_pay_for_it(played):
    source = drafts(switch, "vertical_slash", "flexprefill", r"if block\.layer < FIRST_LAYERS", wanted=1)[0]
    own, both = played(SEEDS["vertical_slash"]), played(source)
    assert all(both[turn].sum() < own[turn].sum() for turn in both if turn[0] > 0)


def test_a_switch_by_budget_compares_the_budget_alone(played):
    source = drafts(switch, "anchor_attention", "a_shape", r"SMALL_BUDGET = 0\.[34]", wanted=1)[0]
    limit = float(re.search(r"SMALL_BUDGET = ([\d.]+)", source)[1])
    own, other = played(SEEDS["anchor_attention"]), played(SEEDS["a_shape"])
    for (layer, budget), columns in played(source).items():
        expected = other if (0.2, 0.3, 0.5)[budget] < limit else own
        assert np.array_equal(columns, expected[layer, budget])


def test_a_constant_specialised_by_layer_changes_the_first_layers_alone(played):
    sources = drafts(specialise, "a_shape", "a_shape", r"if block\.layer < FIRST_LAYERS")
    plain = played(SEEDS["a_shape"])
    changed = [played(source) for source in sources]
    for found in changed:
        assert all(np.array_equal(found[turn], plain[turn]) for turn in plain if turn[0] > 0)
    assert any(not np.array_equal(found[0, 2], plain[0, 2]) for found in changed)


def test_what_was_measured_by_layer_is_handed_over_and_gains_what_was_promised(examine):
    ours, theirs = (examine(SEEDS[name], "search").value() for name in ("anchor_attention", "a_shape"))
    best = divisions(ours["feedback"], theirs["feedback"])[0]
    assert best.layers.startswith("cache.layer")
    made = hand_over(
        parse(SEEDS["anchor_attention"]),
        (ours["feedback"], parse(SEEDS["a_shape"]), theirs["feedback"]),
        stream(0, 0, "test"),
    )
    found = examine(made.code, "search").value()
    assert found["score"] > max(ours["score"], theirs["score"])
    assert found["score"] >= ours["score"] + 0.6 * best.gain - 0.01


def test_nobody_allots_shares_that_the_interface_does_not_have(examine):
    names = ("a_shape", "block_sparse", "flexprefill")
    told = [examine(SEEDS[name], "search").value()["feedback"] for name in names]
    assert not any(map(allotment, told))
    as_traffic = [one.replace("% computed: ", "% traffic: ").replace("computing", "reading") for one in told]
    assert any(map(allotment, as_traffic))  # else they would be
