"""The built-in operators on programs that are no policy: what they make runs, and does what it says."""

import ast
from collections import Counter

import numpy as np
import pytest

from evolve.builtin.arithmetic import blend, numeric_sites
from evolve.builtin.borrow import borrowed
from evolve.builtin.drafting import Drafting
from evolve.builtin.freeze import freeze
from evolve.builtin.functions import functions
from evolve.builtin.improve import improve
from evolve.builtin.numbers import at, numbers, places
from evolve.builtin.operators import OPERATORS, Operator
from evolve.builtin.simplify import without_dead_code
from evolve.builtin.syntax import code, parse
from evolve.builtin.vary import MOST_ROUNDS, more_rounds
from evolve.proposer import Parent
from evolve.streams import stream

ORDERING = '''"""Jobs one after the other."""

import math

SLOPE = 0.5  # of the late ones
WEIGHTS = (1.0, 2.0, 4.0)


def cost(order, jobs):
    """Time until each job is done, summed."""
    total, now = 0.0, 0.0
    for job in order:
        now += jobs[job]
        total += now
    return total


def arrange(jobs):
    order = sorted(range(len(jobs)), key=lambda job: jobs[job] * -SLOPE)
    return order
'''
PACKING = """import numpy as np


def build(n=12):
    points = np.zeros((n, 2))
    for i in range(n):
        angle = 2 * np.pi * i / n
        points[i] = [0.5 + 0.3 * np.cos(angle), 0.5 + 0.3 * np.sin(angle)]
    points = np.clip(points, 0.01, 0.99)
    scores = spread(points)
    return points, scores


def spread(points):
    n = points.shape[0]
    scores = np.ones(n)
    for i in range(n):
        x, y = points[i]
        scores[i] = min(x, y, 1 - x, 1 - y)
    return scores
"""
SLOWER = ORDERING.replace("now += jobs[job]", "now += 2 * jobs[job]").replace("0.5", "0.25")
FEEDBACK = f"returned arrange() = [1, 0, 3, 2]\nreturned build() = ({[[0.2, 0.4]] * 12}, {[0.1] * 12})\n"
FOR_PROGRAMS = [operator for operator in OPERATORS if operator.suits(parse(ORDERING))]


def ran(source: str) -> bool:
    """Whether a program does its work."""
    program: dict = {}
    try:
        exec(compile(source, "<program>", "exec"), program)
        if "arrange" in program:
            order = [int(job) for job in program["arrange"]([3.0, 1.0, 2.0, 5.0])]
            return sorted(order) == [0, 1, 2, 3]
        points, scores = program["build"]()
        return bool(np.isfinite(points).all() and np.isfinite(scores).all() and points.shape == (12, 2))
    except Exception:
        return False


def drafts(source: str, other: str, count: int, operators: tuple[Operator, ...] = OPERATORS):
    parents = (Parent("a" * 64, source, 0.0, FEEDBACK), Parent("b" * 64, other, 0.0, FEEDBACK))
    drafting = Drafting(lambda _: True, operators)
    return [drafting.draft(parents, stream(0, number, "proposal")) for number in range(count)]


@pytest.mark.parametrize("source", [ORDERING, PACKING], ids=["ordering", "packing"])
def test_seven_of_ten_proposals_run(source):
    made = drafts(source, source, 150)
    assert sum(ran(draft.source) for draft in made) >= 0.7 * len(made)


@pytest.mark.parametrize("operator", FOR_PROGRAMS, ids=lambda operator: operator.name)
def test_every_operator_changes_some_program(operator):
    made = [
        draft
        for first, second in ((ORDERING, PACKING), (PACKING, ORDERING), (ORDERING, SLOWER))
        for draft in drafts(first, second, 6, (operator,))
    ]
    assert operator.name in Counter(draft.operator for draft in made)
    for draft in made:
        ast.parse(draft.source)


def test_local_search_makes_an_answer_better():
    jobs = [float(job) for job in (7, 3, 9, 1, 4, 8, 2, 6)]
    plain: dict = {}
    exec(ORDERING, plain)
    before = plain["cost"](plain["arrange"](jobs), jobs)
    better = 0
    for number in range(8):
        changed = improve(parse(ORDERING), (), stream(1, number, "proposal"))
        assert changed is not None
        program: dict = {}
        exec(changed.code, program)
        order = program["arrange"](jobs)
        better += program["cost"](order, jobs) < before
    assert better >= 6  # one in twenty goes the wrong way, another one takes an order for an assignment


def test_local_search_takes_the_value_of_an_answer_from_a_second_parent():
    head, _, tail = ORDERING.partition("def cost")
    without = head + "def arrange" + tail.partition("def arrange")[2]
    changed = improve(parse(without), (parse(ORDERING),), stream(1, 0, "proposal"))
    assert changed is not None
    assert "def cost(order, jobs)" in changed.code
    assert ran(changed.code)


def test_local_search_of_real_numbers_keeps_their_shape():
    for number in range(6):
        changed = improve(parse(PACKING), (), stream(2, number, "proposal"))
        assert changed is not None
        assert "np.sum(spread(trial))" in changed.code
        assert ran(changed.code)


def test_rounds_grow_up_to_their_limit_and_no_further():
    module = parse(improve(parse(ORDERING), (), stream(1, 0, "proposal")).code)
    for number in range(40):
        longer = more_rounds(module, stream(0, number, "proposal"))
        if longer is None:
            break
        module = longer
    (rounds,) = [
        node.value.value
        for node in ast.parse(module.code).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "ROUNDS"
    ]
    assert rounds == MOST_ROUNDS


def test_numbers_of_tuples_are_tuned_with_named_constants():
    assert [number.value for number in numbers(parse(ORDERING))] == [0.5, 1.0, 2.0, 4.0]


def test_moving_numbers_to_where_they_are_changes_nothing():
    module = parse(ORDERING)
    found = numbers(module)
    stood = [number.coordinate(number.value) for number in found]
    assert at(module, found, stood).code == ORDERING
    moved = at(module, found, [place + 0.5 for place in stood])
    assert places(found, moved) == pytest.approx([place + 0.5 for place in stood], abs=0.02)


def test_rounds_are_nothing_to_tune():
    assert numbers(parse("ROUNDS = 100\nROUNDS_2 = 7\nHEAT = 0.5\n"))[0].value == 0.5


def test_dead_code_goes_and_all_else_stays():
    source = "def f(x):\n    a = x + 1\n    unread = x * 2\n    return a\n    a = 3\n"
    assert without_dead_code(parse(source)).code == "def f(x):\n    a = x + 1\n    return a\n"
    assert without_dead_code(parse(ORDERING)).code == ORDERING


def test_indices_sizes_and_targets_are_no_quantities():
    source = (
        "def f(xs, n):\n    ys = [0.0] * n\n    for i in range(n + 1):\n        ys[i - 1] = xs[i] - 2.5\n"
    )
    (function,) = functions(parse(source))
    assert [code(site.node) for site in numeric_sites(function)] == ["xs[i] - 2.5"]


def test_entries_stay_though_nothing_in_the_program_calls_them():
    for draft in drafts(ORDERING, PACKING, 60):
        names = {node.name for node in ast.parse(draft.source).body if isinstance(node, ast.FunctionDef)}
        assert "arrange" in names


MARKED = '''"""Fixed."""
import numpy as np

LIMIT = 3


def run():
    return build()


# EVOLVE-BLOCK-START
def build():
    points = np.linspace(0.1, 0.9, 4)
    return points


def cost(points):
    return float(np.abs(points - 0.5).sum())
# EVOLVE-BLOCK-END


def fixed(x):
    return x + 1.5
'''


def outside(source: str) -> tuple[str, str]:
    head, _, rest = source.partition("# EVOLVE-BLOCK-START\n")
    return head, rest.partition("# EVOLVE-BLOCK-END\n")[2]


def test_what_is_outside_of_the_markers_stays_as_it_is():
    for draft in drafts(MARKED, PACKING, 80):
        assert outside(draft.source) == outside(MARKED)


def test_new_functions_and_constants_stand_between_the_markers():
    changed = improve(parse(MARKED), (), stream(1, 0, "proposal"))
    assert changed is not None
    assert outside(changed.code) == outside(MARKED)
    program: dict = {}
    exec(changed.code, program)
    assert program["cost"](program["run"]()) < program["cost"](np.linspace(0.1, 0.9, 4))


def test_a_frozen_result_is_where_the_next_candidate_starts():
    table = [[round(0.01 * number, 9), 0.5] for number in range(12)]
    feedback = f"score: 1\nreturned build() = ({table}, {[0.1] * 12})\noutput:\n"
    changed = freeze(parse(PACKING), feedback, stream(0, 0, "proposal"))
    assert changed is not None
    program: dict = {}
    exec(changed.code, program)
    points, scores = program["build"]()
    assert points.tolist() == table
    assert scores.tolist() == program["spread"](points).tolist()
    assert "for i in range(n):\n        angle" not in changed.code  # what made the points is not needed now


def test_a_search_behind_a_frozen_result_goes_on_from_it():
    searching = improve(parse(PACKING), (), stream(2, 0, "proposal"))
    assert searching is not None
    table = [[0.5, 0.5]] * 12
    frozen = freeze(searching, f"returned build() = ({table}, {[0.1] * 12})", stream(0, 0, "proposal"))
    assert frozen is not None
    text = frozen.code
    assert text.index("points = np.array(TABLE)") < text.index("points = improved(")
    assert ran(text)


@pytest.mark.parametrize(
    "feedback",
    [
        "",
        "returned build() = (nan, [1.0])",
        "returned other() = ([1.0], [2.0])",
        "returned build() = ([], [])",
        "returned build() = (['a'], [1.0])",
        "returned build() = [1.0]",
        f"returned build() = ({[0.5] * 500}, [1.0])",
        "returned build() = ((((((",
    ],
)
def test_what_cannot_be_frozen_is_left_alone(feedback):
    assert freeze(parse(PACKING), feedback, stream(0, 0, "proposal")) is None


def test_parameters_that_are_subtracted_are_quantities_and_get_company():
    module = parse("import numpy as np\n\n\ndef priority(item, bins):\n    return -(bins - item)\n")
    draws = [stream(0, attempt, "operator") for attempt in range(60)]
    drafts = {blend(blend(module, (), random), (), random).code for random in draws}
    bins = 2.0 + np.array([7.0, 3.0, 0.5, 5.0, 1.5, 2.2, 4.0])
    orders = set()
    for source in drafts:
        program: dict = {}
        exec(compile(source, "<program>", "exec"), program)
        orders.add(tuple(np.argsort(program["priority"](2.0, bins), kind="stable").tolist()))
    assert len(orders) > 3  # of what only follows the remaining room there are two


MUTUAL = """
LIMIT = 3


def even(n):
    return n == 0 or odd(n - 1)


def odd(n):
    return n != 0 and even(n - 1) and n < LIMIT


def cost(n):
    return odd(n)
"""


def test_functions_that_call_each_other_are_borrowed_together():
    donor = parse(MUTUAL)
    changed, names = borrowed(parse("def cost(n):\n    return n\n"), donor, [donor.body[-1]])
    assert names == {}
    scope: dict = {}
    exec(changed.code, scope)
    assert scope["odd"](1)
