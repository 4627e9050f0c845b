"""A decoder's caps and rules become constraints: what comes out keeps them, and fills more."""

import numpy as np
import pytest

from evolve.builtin.drafting import Drafting
from evolve.builtin.improve import improve
from evolve.builtin.relax import can_be_relaxed, relax
from evolve.builtin.syntax import parse
from evolve.proposer import Parent

INTERVALS = '''import numpy as np


def arrange(n=5):
    """Places on a line of length 1."""
    points = np.linspace(0.1, 0.5, n) ** 2
    widths = widen(points)
    return points, widths, np.sum(widths)


def widen(points):
    """How far each point may reach to both sides."""
    n = len(points)
    widths = np.ones(n)
    for i in range(n):
        widths[i] = min(points[i], 1 - points[i])
    for i in range(n):
        for j in range(i + 1, n):
            gap = abs(points[i] - points[j])
            if widths[i] + widths[j] > gap:
                scale = gap / (widths[i] + widths[j])
                widths[i] *= scale
                widths[j] *= scale
    return widths
'''


def relaxed(source: str, seed: int = 0) -> str | None:
    module = relax(parse(source), (), np.random.default_rng(seed))
    return module.code if module else None


def ran(source: str) -> tuple[np.ndarray, np.ndarray, float]:
    program: dict = {}
    exec(compile(source, "<program>", "exec"), program)
    return program["arrange"]()


@pytest.mark.parametrize("seed", range(4))
def test_more_is_filled_and_every_rule_is_kept(seed):
    points, widths, total = ran(relaxed(INTERVALS, seed))
    assert ran(INTERVALS)[2] < 0.3
    assert total == pytest.approx(0.5, abs=1e-6)  # intervals that cover the line: no more is possible
    assert (widths >= 0).all()
    assert (points - widths >= -1e-9).all()
    assert (points + widths <= 1 + 1e-9).all()
    gaps = np.abs(points[:, None] - points) + 9 * np.eye(5)
    assert (widths[:, None] + widths <= gaps + 1e-9).all()


def test_a_program_is_relaxed_once():
    once = relaxed(INTERVALS)
    assert can_be_relaxed(parse(INTERVALS))
    assert not can_be_relaxed(parse(once))
    assert relaxed(once) is None


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("widths[i] = min(points[i], 1 - points[i])", "widths[i] = widths[i] * points[i]"),
        ("if widths[i] + widths[j] > gap:", "if widths[i] + widths[j] > gap and i:"),
        ("if widths[i] + widths[j] > gap:", "while widths[i] + widths[j] > gap + 1e-9:"),
        ("    for i in range(n):\n        widths[i] = min(points[i], 1 - points[i])\n", ""),
        ("return widths\n", "return 2 * widths\n"),
        ("def widen(points):", "def widen(points, scale):"),
    ],
)
def test_what_cannot_be_read_as_caps_and_rules_is_left_alone(text, instead):
    assert text in INTERVALS
    other = INTERVALS.replace(text, instead)
    assert relaxed(other) is None
    assert not can_be_relaxed(parse(other))


@pytest.mark.parametrize(("packages", "used"), [((), False), (("scipy",), True)])
def test_the_solver_is_used_only_where_its_package_may_be(packages, used):
    drafting = Drafting(lambda _: True, packages=packages)
    parent = Parent("0", INTERVALS, 0.0, "")
    assert ("relax" in drafting.weights(parent)) == used
    drafts = [drafting.draft([parent], np.random.default_rng(seed), "relax") for seed in range(6)]
    assert any("scipy" in draft.source for draft in drafts) == used


def test_a_decoder_that_a_local_search_made_cheaper_can_still_be_read():
    searched = improve(parse(INTERVALS), (), np.random.default_rng(0))
    assert "return np.array(widths)" in searched.code
    assert can_be_relaxed(searched)
