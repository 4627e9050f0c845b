"""Functions made cheaper return the same but for rounding; what uses whole arrays stays as it is."""

import numpy as np
import pytest

from evolve.builtin.cheaper import cheaper
from evolve.builtin.syntax import parse

SPREAD = """import numpy as np


def spread(points):
    n = points.shape[0]
    scores = np.ones(n)
    for i in range(n):
        x, y = points[i]
        scores[i] = min(x, y, 1 - x, 1 - y)
    for i in range(n):
        for j in range(i + 1, n):
            gap = np.sqrt(np.sum((points[i] - points[j]) ** 2))
            if scores[i] + scores[j] > gap:
                scale = gap / (scores[i] + scores[j])
                scores[i] *= scale
                scores[j] *= scale
    return scores
"""


def made(source: str) -> dict:
    program: dict = {}
    exec(compile(source, "<program>", "exec"), program)
    return program


def test_the_same_comes_out_but_for_the_rounding_of_distances():
    changed = cheaper(parse(SPREAD)).code
    assert changed.count("tolist()") == 2
    assert "math.dist(points[i], points[j])" in changed
    points = np.random.default_rng(0).uniform(0.1, 0.9, (9, 2))
    before, after = (made(source)["spread"](points) for source in (SPREAD, changed))
    assert type(after) is np.ndarray
    np.testing.assert_allclose(after, before, rtol=1e-12)


def test_what_is_cheaper_already_does_not_change():
    once = cheaper(parse(SPREAD))
    assert cheaper(once).code == once.code


@pytest.mark.parametrize(
    ("array", "text", "instead"),
    [
        ("points", "        x, y = points[i]\n", "        x, y = points[i] + 0.0\n"),
        ("points", "        x, y = points[i]\n", "        x, y = points[i, :]\n"),
        ("points", "    n = points.shape[0]\n", "    points = points * 1.0\n    n = points.shape[0]\n"),
        ("points", "    n = points.shape[0]\n", "    n, _ = points.shape\n"),
        ("scores", "    return scores\n", "    return scores * 1.0\n"),
        ("scores", "    return scores\n", "    scores[scores > 9] = 0.0\n    return scores\n"),
        ("scores", "np.ones(n)", "np.ones((n, 2))[:, 0]"),
    ],
)
def test_arrays_that_are_used_as_such_stay_arrays(array, text, instead):
    assert text in SPREAD
    changed = cheaper(parse(SPREAD.replace(text, instead))).code
    assert f"array({array})" not in changed
    points = np.random.default_rng(0).uniform(0.1, 0.9, (9, 2))
    np.testing.assert_allclose(made(changed)["spread"](points), made(SPREAD)["spread"](points), rtol=1e-12)
