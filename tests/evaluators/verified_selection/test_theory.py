"""What the lemma, its public code and better rules guarantee, on recorded heads with known moments."""

import numpy as np
import pytest

from evaluators.recording import SMALL_RECORDING
from tests.evaluators.verified_selection.theory import (
    draws,
    exceedance,
    heads_of,
    lemma,
    mean_exceedance,
    size,
)

TIMES = 400


@pytest.fixture(scope="module")
def heads():
    return list(heads_of(SMALL_RECORDING)) + list(heads_of(SMALL_RECORDING, "validation"))


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.2, 0.4])
def test_the_two_sided_quantile_misses_the_denominator_as_often_as_delta_says(heads, delta):
    assert mean_exceedance(heads, "denominator", delta, 2, TIMES) == pytest.approx(delta, rel=0.2)


@pytest.mark.parametrize("delta", [0.05, 0.1, 0.2])
def test_the_one_sided_quantile_of_the_public_code_misses_it_twice_as_often(heads, delta):
    assert mean_exceedance(heads, "denominator", delta, 1, TIMES) == pytest.approx(2 * delta, rel=0.2)


def test_the_lemma_for_the_numerator_holds_for_small_delta_only(heads):
    found = {delta: mean_exceedance(heads, "numerator", delta, 2, TIMES) for delta in (0.05, 0.1, 0.2, 0.4)}
    assert found[0.05] < 0.05
    assert found[0.1] < 0.1
    assert found[0.2] < 0.2
    assert found[0.4] > 0.5  # above delta = 0.215, many dimensions concentrate beyond what is allowed


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 1.0])
def test_dropping_duplicates_shrinks_the_residual(heads, share):
    head, random = heads[-1], np.random.default_rng(1)
    count = int(share * head.n)
    drawn = draws(head, count, 3_000, random, True)
    kept = np.zeros((len(drawn), head.n), bool)
    kept[np.arange(len(drawn))[:, None], drawn] = True
    found = (kept @ head.weights).mean() * head.n / count / head.weights.sum()
    assert found == pytest.approx((1 - np.exp(-share)) / share, rel=0.02)


def test_better_rules_guarantee_the_output_with_a_fraction_of_the_lemmas_samples(heads):
    """The ratio rule by name: at (0.1, 0.1) less than half."""
    shares = {
        rule: np.mean([size(rule, head, 0.1, 0.1) / head.n for head in heads])
        for rule in ("lemma", "tight", "ratio")
    }
    assert shares["ratio"] < 0.5 * shares["lemma"]
    assert shares["ratio"] < shares["tight"] < shares["lemma"]


@pytest.mark.parametrize(("rule", "most"), [("lemma", 0.01), ("tight", 0.02), ("ratio", 0.1)])
def test_rules_with_exact_moments_keep_their_guarantee(heads, rule, most):
    random = np.random.default_rng(2)
    found = []
    for head in heads[::3]:
        count = size(rule, head, 0.1, 0.1)
        if count < head.n:
            found.append(exceedance(head, "output", 0.1, draws(head, count, TIMES, random, False)))
    assert len(found) >= 5
    assert np.mean(found) <= most


def test_an_error_of_nothing_needs_all_tokens(heads):
    assert size("ratio", heads[0], 1e-9, 0.1) == heads[0].n
    assert lemma(100, 0.1, 0.1, 0.1) == pytest.approx(lemma(100, 0.1, 0.2, 0.1) * 4)
