"""Violations are bounded exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from evaluators.verified_selection import reference
from evaluators.verified_selection.certificate import certify, upper_bound


@given(st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_at_the_bound_so_few_violations_have_a_probability_of_five_percent(trials, data):
    violations = data.draw(st.integers(0, trials - 1))
    bound = float(upper_bound(violations, trials))
    assert binom.cdf(violations, trials, bound) == pytest.approx(0.05, rel=1e-6)
    assert bound == pytest.approx(reference.upper_bound(violations, trials), rel=1e-6)


def test_without_violations_the_bound_is_known_in_closed_form():
    trials = np.array([1, 36, 59, 1_000])
    assert np.allclose(upper_bound(np.zeros(4), trials), 1 - 0.05 ** (1 / trials))


def test_where_everything_violates_nothing_is_known():
    assert upper_bound(7, 7) == 1


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.4])
def test_the_true_rate_is_below_the_bound_in_95_of_100_cases(rate):
    found = np.random.default_rng(0).binomial(200, rate, size=20_000)
    assert (rate <= upper_bound(found, np.full(found.shape, 200))).mean() >= 0.95 - 0.005


def test_a_layer_that_violates_too_often_spoils_the_certificate():
    even, uneven = np.array([5.0, 5.0, 5.0]), np.array([0.0, 0.0, 15.0])
    trials = np.full(3, 100.0)
    assert certify(0.15, even, trials).certified
    assert not certify(0.15, uneven, trials).certified
    assert certify(0.15, even, trials).bound == certify(0.15, uneven, trials).bound
