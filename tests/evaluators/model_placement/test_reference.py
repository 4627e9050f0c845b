"""The exact solver, against trying every placement."""

from fractions import Fraction
from itertools import product
from math import inf

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evaluators.model_placement.reference import balanced, optimum, pressure

MEMORY_GB = 10.0


@st.composite
def instances(draw):
    """A few models with any loads and sizes, and up to three GPUs."""
    models = draw(st.integers(1, 6))
    load = draw(st.lists(st.floats(0.01, 9), min_size=models, max_size=models))
    size = draw(st.lists(st.integers(1, 36).map(lambda n: n / 4), min_size=models, max_size=models))
    return load, size, draw(st.integers(1, 3))


def smallest(load, size, gpus) -> Fraction | float:
    """The smallest pressure of all placements, by trying each."""
    return min(pressure(p, load, size, gpus, MEMORY_GB) for p in product(range(gpus), repeat=len(load)))


@given(instances())
@settings(max_examples=150, deadline=None)
def test_optimum_is_exactly_the_smallest_pressure_of_all_placements(instance):
    load, size, gpus = instance
    expected = smallest(load, size, gpus)
    assume(expected < inf)
    found = optimum(load, size, gpus, MEMORY_GB)
    assert found.pressure == expected
    assert pressure(found.placement, load, size, gpus, MEMORY_GB) == expected
    assert balanced(load, size, gpus, MEMORY_GB) <= expected


@given(instances())
@settings(max_examples=60, deadline=None)
def test_models_that_fit_in_no_way_are_refused(instance):
    load, size, gpus = instance
    assume(smallest(load, size, gpus) == inf)
    with pytest.raises(ValueError, match="do not fit"):
        optimum(load, size, gpus, MEMORY_GB)


def test_optimum_by_hand():
    # Apart: 3 / 6 and 2 / 8. Together on one GPU: 5 / 4.
    assert optimum([3.0, 2.0], [4.0, 2.0], 2, 10.0).pressure == Fraction(1, 2)


def test_pressure_of_a_full_gpu_is_infinite():
    assert pressure([0, 0], [1.0, 1.0], [4.0, 6.0], 2, 10.0) == inf
