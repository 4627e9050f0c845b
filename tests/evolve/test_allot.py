"""Shares for which the measured errors speak: what the curves promise is what the policy comes to."""

import types

import numpy as np
import pytest

from evaluators.problem import get_problem
from evaluators.token_selection.scoring import score_of, scores_of
from evolve.builtin.allot import allot, allotment
from evolve.builtin.errors import FINEST, errors_in
from evolve.builtin.syntax import names_in, parse
from sandbox.screen import screen
from tests.evolve.arithmetic import NAMES
from tests.evolve.test_hand_over import BUDGETS, told

PROBLEM = get_problem("token_selection")
SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds()}


def falling(*slopes: float) -> np.ndarray:
    """Errors [B, L]: at 2.5% all 0.8, from there each layer's falls with its own power of the traffic."""
    return 0.8 * (np.array(BUDGETS)[:, None] / BUDGETS[0]) ** -np.array(slopes)


def shares_of(source: str, layers: int) -> list[float]:
    loaded = types.ModuleType("policy")
    loaded.Index = None
    exec(compile(source, "policy", "exec"), vars(loaded))
    return loaded.Policy().layer_shares(layers)


def test_errors_at_other_traffic_follow_the_lines_between_and_beyond_what_is_told():
    errors = errors_in(told(falling(1.0, 0.5)))
    assert errors is not None
    told_at = np.outer(BUDGETS, np.ones(2))
    assert np.allclose(errors.at(told_at), falling(1.0, 0.5), atol=1e-3)
    twice = errors.at(2 * told_at)
    assert np.allclose(twice / falling(1.0, 0.5), [[0.5, 2**-0.5]] * 4, rtol=0.02)
    assert (errors.at(0.5 * told_at) > errors.of).all()
    assert (errors.at(np.ones_like(told_at)) == FINEST).all()


def test_many_scores_at_once_are_those_of_the_judge():
    errors = np.random.default_rng(0).uniform(0.01, 1, (50, 4, 4))
    assert scores_of(errors).tolist() == [score_of(one[None]) for one in errors]


def test_reading_more_is_never_expected_to_do_harm():
    noisy = falling(0.5, 0.5)
    noisy[2, 0] *= 1.5  # it is not as if more were worse
    errors = errors_in(told(noisy))
    assert errors is not None
    reads = np.outer(np.geomspace(0.01, 0.9, 40), np.ones(2))
    assert (np.diff(errors.at(reads), axis=0) <= 1e-9).all()


def test_more_goes_to_the_layer_whose_error_falls_faster():
    found = allotment(told(falling(1.2, 0.3, 0.3)))
    assert found is not None
    assert np.allclose(found.now, 1)
    assert found.better[0] > 1.5
    assert found.better[1] < 0.8
    assert np.mean(found.better) == pytest.approx(1)
    assert found.gain > 0.05


def test_nothing_is_allotted_where_all_layers_are_alike_or_nothing_is_told():
    assert allotment(told(falling(0.5, 0.5, 0.5))) is None
    assert allotment("All went well.") is None
    assert allot(parse(SEEDS["quest"]), "All went well.", np.random.default_rng(0)) is None


def test_what_is_best_already_is_left():
    fast_first = falling(1.0, 0.25)
    found = allotment(told(fast_first))
    assert found is not None
    there = fast_first / np.array(found.better) ** (1.0, 0.25)
    again = allotment(told(there, found.better))
    assert again is None or again.gain < found.gain / 4


def test_shares_hold_for_any_number_of_layers_and_replace_those_before_them():
    fast_first = told(falling(1.0, 0.25))
    module = parse(SEEDS["streaming_llm"])
    changed = allot(module, fast_first, np.random.default_rng(0))
    assert changed is not None
    assert not screen(changed.code, PROBLEM.language)
    first, second = shares_of(changed.code, 2)
    assert first > 1 > second
    assert shares_of(changed.code, 30) == [first] * 15 + [second] * 15
    assert shares_of(changed.code, 1) == [first]
    again = allot(changed, told(falling(0.25, 1.0)), np.random.default_rng(0))
    assert again is not None
    assert len([name for name in names_in(again) if name.startswith("LAYER_SHARES")]) == 1
    first, second = shares_of(again.code, 2)
    assert first < 1 < second


def test_what_is_promised_is_mostly_kept(selection_worker):
    kept = {}
    for name, source in SEEDS.items():
        measured = selection_worker.run(source, "search").value
        promised = allotment(measured["feedback"])
        if promised is None or promised.gain < 0.02:
            continue
        changed = allot(parse(source), measured["feedback"], np.random.default_rng(0))
        came = selection_worker.run(changed.code, "search")
        if came.failure is None:  # a layer may be left less than its index costs
            kept[name] = (came.value["score"] - measured["score"]) / promised.gain
    assert len(kept) >= 4
    assert np.median([*kept.values()]) > 0.5
    assert min(share for name, share in kept.items() if name in (*NAMES, *PROBLEM.bounds)) > 0
    assert (
        np.mean(np.array([*kept.values()]) > 0) > 0.7
    )  # an index costs a layer the same, whatever its share
