import numpy as np
import pytest

from evolve.statistics import paired_difference


def mean(samples: np.ndarray) -> float:
    return float(samples.mean())


def test_pairing_removes_what_both_have_in_common():
    random = np.random.default_rng(0)
    hard = random.normal(scale=10, size=12)  # contexts differ far more than candidates do
    better, worse = hard + 0.5 + random.normal(scale=0.1, size=12), hard
    difference = paired_difference(better, worse, mean)
    assert difference.value == pytest.approx(0.5, abs=0.1)
    assert 0.3 < difference.low < difference.value < difference.high < 0.7
    assert difference.certain


def test_equal_candidates_are_not_told_apart():
    random = np.random.default_rng(1)
    first, second = random.normal(size=(2, 30))
    assert not paired_difference(first, second, mean).certain


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(60):
        difference = paired_difference(random.normal(0.3, 1, size=40), np.zeros(40), mean)
        covered += difference.low <= 0.3 <= difference.high
    assert covered >= 50  # 95% of 60 is 57; fewer than 50 has a chance below 1e-3


def test_a_report_repeats_its_figures():
    samples = np.random.default_rng(3).normal(size=(2, 9))
    assert paired_difference(*samples, mean) == paired_difference(*samples, mean)


def test_a_single_context_has_no_interval():
    difference = paired_difference(np.array([0.9]), np.array([0.1]), mean)
    assert difference.value == pytest.approx(0.8)
    assert not difference.certain
    assert str(difference) == "one context: no interval"
