"""Cells of equal size for any number of descriptors."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evolve.cells import centroids


@settings(max_examples=10, deadline=None)
@given(cells=st.integers(2, 60), dimensions=st.integers(1, 6), seed=st.integers(0, 1000))
def test_centroids_are_distinct_points_of_the_unit_cube(cells, dimensions, seed):
    found = centroids(cells, dimensions, seed)
    assert len(set(found)) == cells
    assert all(len(point) == dimensions and 0 <= min(point) <= max(point) <= 1 for point in found)


def test_the_same_seed_gives_the_same_cells():
    assert centroids(20, 4, 1) == centroids(20, 4, 1) != centroids(20, 4, 2)


def test_cells_are_about_equally_large():
    found, random = centroids(30, 5, 0), Random(0)
    share = [0] * 30
    for _ in range(6000):
        point = [random.random() for _ in range(5)]
        share[min(range(30), key=lambda cell: math.dist(point, found[cell]))] += 1
    assert max(share) / (sum(share) / 30) == pytest.approx(1, abs=0.8)
    assert min(share) > 6000 / 30 / 3
