"""Equal normalised forms mean equal behaviour; what does not matter gives no other form."""

import ast
import random
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evaluators.problem import get_problem
from evolve.normalise import names_in, normal_hash

PROBLEM = get_problem("token_selection")
KNOWN = names_in(PROBLEM.interface)
SOURCES = {seed.name: seed.source for seed in PROBLEM.seeds()}
SEED = st.sampled_from(sorted(SOURCES)).map(SOURCES.__getitem__)
CHOICE = st.randoms(use_true_random=False)


def normal(source: str) -> str:
    return normal_hash(source, KNOWN)


class Renaming(ast.NodeTransformer):
    """Gives every local variable of every function, none of which nests here, a name of its own."""

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice
        self.names: dict[str, str] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        stored = sorted(
            {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        )
        arguments = {argument.arg for argument in node.args.args}
        self.choice.shuffle(stored)
        self.names = {name: f"renamed{i}" for i, name in enumerate(stored) if name not in arguments}
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


class Unfolding(ast.NodeTransformer):
    """Writes numbers as sums and products that give them exactly."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if type(node.value) is int:
            return ast.parse(f"({node.value - 3} + 3)", mode="eval").body
        if type(node.value) is float and node.value * 2 / 2 == node.value:
            return ast.parse(f"({node.value * 2!r} / 2)", mode="eval").body
        return node


def commented(source: str, choice: random.Random) -> str:
    lines = source.splitlines()
    for position in sorted(choice.sample(range(len(lines)), 5), reverse=True):
        lines.insert(position, " " * choice.randrange(9) + "# a remark" if choice.random() < 0.5 else "")
    return "\n".join(lines) + "\n"


def rewritten(source: str, choice: random.Random) -> str:
    """The same program, written by somebody else."""
    if choice.random() < 0.5:
        source = commented(source, choice)
    tree = ast.parse(source)
    for rewrite in (Renaming(choice), Unfolding()):
        if choice.random() < 0.7:
            tree = ast.fix_missing_locations(rewrite.visit(tree))
    text = ast.unparse(tree)
    if choice.random() < 0.5:
        constants = [top.targets[0].id for top in tree.body if isinstance(top, ast.Assign)]
        for number, name in enumerate(set(constants) - KNOWN):
            text = re.sub(rf"\b{name}\b", f"CONSTANT{number}", text)
    return text


def changed(source: str, choice: random.Random) -> str | None:
    """The source with another number, or with the operands of a subtraction or division swapped."""
    tree = ast.parse(source)
    nodes = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Constant) and type(node.value) in (int, float))
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv))
    ]
    node = choice.choice(nodes)
    if isinstance(node, ast.Constant):
        node.value += choice.choice([1, 0.5])
    elif ast.dump(node.left) == ast.dump(node.right):
        return None
    else:
        node.left, node.right = node.right, node.left
    return ast.unparse(tree)


@settings(deadline=None)
@given(SEED, CHOICE)
def test_another_way_of_writing_a_seed_has_its_hash(source: str, choice: random.Random) -> None:
    assert normal(rewritten(source, choice)) == normal(source)


@settings(deadline=None)
@given(SEED, CHOICE)
def test_another_number_or_order_of_operands_gives_another_hash(source: str, choice: random.Random) -> None:
    other = changed(source, choice)
    assume(other is not None)
    assert normal(other) != normal(source)
    assert normal(rewritten(other, choice)) == normal(other)


def test_no_two_seeds_are_the_same_program():
    assert len({normal(source) for source in SOURCES.values()}) == len(SOURCES)


TEMPLATE = """
{0} = 3

def {1}({2}, {3}=2):
    {4} = {5} * 2
    return [{6} for {7} in range({8})] + [{9}]

class Policy:
    {10} = {0}
    def select(self, query):
        {11} = {12} + 1
        def {13}({14}):
            return {15} - {16}
        return {17}({18}), {13}({11}), self.{10}, [{19} := {0}, {12}]
"""
NAMES = st.lists(st.sampled_from(["a", "b", "c", "query", "len"]), min_size=20, max_size=20)


def plain(value: object) -> object:
    """A result without the addresses of functions."""
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value if isinstance(value, int) else type(value)


def outcome(source: str) -> object:
    program: dict = {}
    try:
        exec(compile(source, "program", "exec"), program)
        return plain(program["Policy"]().select(7))
    except Exception as error:  # whatever it is, equal programs raise the same
        return type(error)


@settings(max_examples=600, deadline=None)
@given(NAMES, NAMES, st.integers(0, 3))
def test_programs_with_equal_hashes_behave_equally(
    one: list[str], other: list[str], differences: int
) -> None:
    """Few differences, so that many pairs are equal; the short names shadow each other in all scopes."""
    other = other[:differences] + one[differences:]
    sources = [TEMPLATE.format(*names) for names in (one, other)]
    hashes = {normal_hash(source, frozenset({"Policy", "select", "query"})) for source in sources}
    assume("" not in hashes)
    assert len(hashes) == 2 or outcome(sources[0]) == outcome(sources[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(2 * 3)", "f(6)"),
        ("LIMIT = 1 / 4\ndef f(x): return x < LIMIT", "def f(x): return x < 0.25"),
        ("import math as maths\nmaths.exp", "import math as sums\nsums.exp"),
        ("def f(x: int, y: 'float') -> list[int]: return x", "def f(x, y): return x"),
        ("def f(x):\n  y: undefined = x\n  return y", "def f(x):\n  y = x\n  return y"),
        ("def f(x):\n  'says what'\n  return x", "def f(x): return x"),
        ("def twice(x): return x\ntwice(1)", "def again(y): return y\nagain(1)"),
        ("f = lambda x: [x + i for i in x]", "f = lambda y: [y + j for j in y]"),
        ("f(-1)", "f(- (1))"),
        ("ONE = 1\nf(ONE)", "f(1)"),
    ],
)
def test_what_does_not_matter_is_taken_away(one, other):
    assert normal_hash(one, KNOWN) == normal_hash(other, KNOWN) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("f(1)", "f(1.0)"),
        ("NEEDS = 1", "NEEDS = 2"),
        ("NEEDS = 1", "WANTS = 1"),
        ("f(0.0)", "f(-0.0)"),
        ("f(1)", "f(True)"),
        ("def score(age, size): return age", "def score(size, age): return size"),  # a judge passes by name
        ("def f(x, y): return x\nf(1, y=2)", "def f(x, z): return x\nf(1, y=2)"),
        ("def f(x: undefined): return x", "def f(x): return x"),
        ("def f(x: torch.Tensor): return x\nimport torch", "def f(x): return x\nimport torch"),
        ("def f(y): return x\nx = 1", "def f(y): return z\nx = 1"),
        ("f(LIMIT)\nLIMIT = 1", "f(1)"),
        ("class A:\n  x = x\nx = 1", "class A:\n  x = x\ny = 1"),
        (
            "def f(x):\n  try: g(x)\n  except TypeError as e: return str(e)",
            "def f(y):\n  try: g(y)\n  except TypeError as e: return str(e)",
        ),
        ("def f(x): return locals()", "def f(y): return locals()"),
        ("self.x = 1", "self.y = 1"),
        ("f(x, k=1)", "f(x, j=1)"),
    ],
)
def test_what_may_matter_stays(one, other):
    known = frozenset({"score", "age", "size"})
    assert normal_hash(one, known) != normal_hash(other, known)


@pytest.mark.parametrize("source", ["def", "x = (", "\0", "(" * 300])
def test_source_that_does_not_parse_has_no_hash(source):
    assert normal_hash(source) == ""


def test_interface_names_are_all_identifiers_of_its_text():
    assert {"Policy", "select", "prefill", "probability"} <= names_in(
        "`Policy.select`, prefill (1): probability"
    )
