"""Handing over: what the feedback of two policies promises is what the policy made of them comes to."""

import numpy as np
import pytest

from evaluators.problem import get_problem
from evaluators.token_selection.feedback import feedback
from evolve.builtin.errors import errors_in
from evolve.builtin.hand_over import divisions, hand_over
from evolve.builtin.syntax import parse
from sandbox.screen import screen

PROBLEM = get_problem("token_selection")
SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds()}
BUDGETS = (0.025, 0.05, 0.1, 0.2)


def told(errors: np.ndarray, shares: tuple[float, ...] = (1.0,)) -> str:
    """The feedback on a policy with these errors [B, L], whose layers have these shares of the budget."""
    figures = {
        f"{name}@{budget:.1%}": 0.1
        for name in ("error", "p95_error", "traffic", "worst_layer_error")
        for budget in BUDGETS
    }
    spent = {"index_share": 0.1, "sampled_mass": 0.0, "locality": 0.5}
    read = np.outer(BUDGETS, shares) * np.ones_like(errors)
    return feedback(BUDGETS, errors, read, figures, spent)


def test_errors_are_read_as_they_are_told():
    errors = np.arange(1, 17).reshape(4, 4) / 20
    found = errors_in(told(errors))
    assert found is not None
    assert found.budgets == BUDGETS
    assert found.of.tolist() == errors.tolist()
    assert np.allclose(found.read, np.outer(BUDGETS, np.ones(4)))
    assert errors_in("All went well.") is None


def test_what_layers_read_is_told_where_it_differs():
    shares = (1.6, 1.2, 0.8, 0.4)
    said = told(np.full((4, 4), 0.5), shares)
    assert "(reading 4.00%, 3.00%, 2.00%, 1.00%)" in said
    assert "reading" not in told(np.full((4, 4), 0.5))
    found = errors_in(said)
    assert found is not None
    assert np.allclose(found.read, np.outer(BUDGETS, shares))


@pytest.mark.parametrize(
    ("better", "condition"),
    [
        ((slice(None), slice(0, 1)), ("cache.layer < {}", 1, "", 0.0)),
        ((slice(None), slice(2, 4)), ("cache.layer >= cache.layers - {}", 2, "", 0.0)),
        ((slice(0, 2), slice(None)), ("", 0, "budget < {}", pytest.approx(0.0707, abs=1e-4))),
        (
            (slice(3, 4), slice(0, 3)),
            ("cache.layer < {}", 3, "budget >= {}", pytest.approx(0.1414, abs=1e-4)),
        ),
    ],
)
def test_the_best_division_is_where_the_other_one_is_better(better, condition):
    ours = np.full((4, 4), 0.4)
    theirs = np.full((4, 4), 0.5)
    theirs[better] = 0.1
    best = divisions(told(ours), told(theirs))[0]
    assert (best.layers, best.layer, best.budgets, best.budget) == condition
    mixed = ours.copy()
    mixed[better] = 0.1
    scores = [-np.log10(errors + 0.01).mean() for errors in (mixed, ours)]
    assert best.gain == pytest.approx(scores[0] - scores[1], abs=1e-4)


def test_who_takes_over_is_expected_to_err_as_it_would_with_the_shares_of_the_first():
    ours = np.full((4, 4), 0.4)
    theirs = np.outer([0.8, 0.4, 0.2, 0.1], np.ones(4))  # half the error for twice the traffic
    half_for_the_first = told(ours, (0.5, 1.5, 1.0, 1.0))
    best = divisions(half_for_the_first, told(theirs))[0]
    expected = ours.copy()
    taken = theirs / np.array([0.5, 1.5, 1.0, 1.0])
    read = np.outer(BUDGETS, (0.5, 1.5, 1.0, 1.0))
    assert best.layers == ""
    expected = np.where(read >= best.budget, taken, ours)
    gain = -np.log10(expected + 0.01).mean() + np.log10(0.41)
    assert best.gain == pytest.approx(gain, abs=0.01)


def test_nothing_is_handed_over_to_who_is_nowhere_better():
    ours, theirs = told(np.full((4, 4), 0.4)), told(np.full((4, 4), 0.4))
    assert divisions(ours, theirs) == ()
    given = ours, parse(SEEDS["quest"]), theirs
    assert hand_over(parse(SEEDS["simhash"]), given, np.random.default_rng(0)) is None


def test_what_is_promised_is_kept(selection_worker):
    names = ("streaming_llm", "quest", "squeezed_attention", "sparq", "simhash")
    measured = {name: selection_worker.run(SEEDS[name], "search").value for name in names}
    made = 0
    for first in names:
        for second in names:
            ours, theirs = measured[first]["feedback"], measured[second]["feedback"]
            promised = divisions(ours, theirs)
            if not promised or promised[0].gain < 0.02:
                continue
            given = ours, parse(SEEDS[second]), theirs
            changed = hand_over(parse(SEEDS[first]), given, np.random.default_rng(0))
            if changed is None:
                continue
            assert not screen(changed.code, PROBLEM.language)
            came = selection_worker.run(changed.code, "search")
            assert came.failure is None, came.message
            gain = came.value["score"] - measured[first]["score"]
            assert 0.5 * promised[0].gain < gain < 1.1 * promised[0].gain
            made += 1
    assert made >= 3
