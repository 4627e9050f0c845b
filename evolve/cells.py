"""Cells for grids of many descriptors: the centroids of a centroidal Voronoi tessellation."""

from evolve.streams import stream

POINTS_PER_CELL = 25  # of the sample that is tessellated
ITERATIONS = 40


def centroids(cells: int, dimensions: int, seed: int) -> tuple[tuple[float, ...], ...]:
    """Points that spread evenly over the unit cube: k-means of uniform samples.

    Vassiliades, Chatzilygeroudis and Mouret, "Using Centroidal Voronoi Tessellations to Scale Up the
    Multidimensional Archive of Phenotypic Elites Algorithm", 2018, arXiv:1610.05729, algorithm 4. The number
    of cells stays the same however many descriptors there are.
    """
    from scipy.cluster.vq import kmeans2

    points = stream(seed, 0, "cells").random((cells * POINTS_PER_CELL, dimensions))
    found, _ = kmeans2(points, points[:cells], iter=ITERATIONS, minit="matrix", missing="warn")
    return tuple(tuple(map(float, centroid)) for centroid in found)
