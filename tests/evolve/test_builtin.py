"""The built-in proposer: what every operator promises on every seed."""

import ast
import hashlib

import libcst as cst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.problem import get_problem
from evolve.builtin.drafting import Drafting
from evolve.builtin.operators import OPERATORS, Operator
from evolve.builtin.syntax import constants, parse
from evolve.builtin.vary import stepped, vary
from evolve.proposer import Draft, Parent
from evolve.streams import stream
from sandbox.screen import screen

PROBLEM = get_problem("token_selection")
NAMES = """
hip quest quest_sampled recent_window simhash simhash_sampled sparq sparq_sampled squeezed_attention
squeezed_attention_sampled streaming_llm uniform_random vattention
"""
SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds() if seed.name in NAMES.split()}
BY_NAME = {operator.name: operator for operator in OPERATORS}
FOR_ALL = [operator for operator in OPERATORS if not operator.needs]
FOR_POLICIES = [  # others elsewhere
    operator for operator in FOR_ALL if operator.suits(parse(SEEDS["quest"])) and operator.reads is None
]


def is_clean(source: str) -> bool:
    return not screen(source, PROBLEM.language)


def parent(name: str) -> Parent:
    return Parent(hashlib.sha256(name.encode()).hexdigest(), SEEDS[name], 0.0, "")


def drafted(
    first: str, second: str, number: int, operators: tuple[Operator, ...] = OPERATORS, run: int = 0
) -> Draft:
    parents = (parent(first), parent(second))
    return Drafting(is_clean, operators).draft(parents, stream(run, number, "proposal"))


def module_names(source: str) -> list[str]:
    """Names bound by the statements of the module, each as often as it is bound."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


@pytest.mark.parametrize("operator", FOR_ALL, ids=lambda operator: operator.name)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_proposal_is_new_and_passes_the_screen(seed: str, operator: Operator) -> None:
    for number in range(2):
        draft = drafted(seed, "sparq_sampled", number, (operator,))
        if draft.operator == "none":  # there is nothing to vary in uniform_random and recent_window
            assert not constants(parse(SEEDS[seed])) or not operator.suits(parse(SEEDS[seed]))
            continue
        assert draft.source not in (SEEDS[seed], SEEDS["sparq_sampled"])
        assert is_clean(draft.source)


@pytest.mark.parametrize("operator", FOR_POLICIES, ids=lambda operator: operator.name)
def test_every_operator_finds_something_to_do_in_some_seed(operator: Operator) -> None:
    assert any(drafted(seed, "quest", 1, (operator,)).operator.startswith(operator.name) for seed in SEEDS)


@settings(max_examples=25, deadline=None)
@given(
    first=st.sampled_from(sorted(SEEDS)),
    second=st.sampled_from(sorted(SEEDS)),
    number=st.integers(0, 10_000),
    run=st.integers(0, 100),
)
def test_same_request_and_random_state_give_the_same_draft(
    first: str, second: str, number: int, run: int
) -> None:
    draft = drafted(first, second, number, run=run)
    assert draft == drafted(first, second, number, run=run)
    assert len(module_names(draft.source)) == len(set(module_names(draft.source)))


@pytest.mark.parametrize("name", ["crossover", "switch"])
@pytest.mark.parametrize("first", SEEDS)
@pytest.mark.parametrize("second", ["quest_sampled", "sparq_sampled", "simhash"])
def test_crossing_defines_no_name_twice(first: str, second: str, name: str) -> None:
    for number in range(2):
        changed = BY_NAME[name].apply(
            parse(SEEDS[first]), (parse(SEEDS[second]),), stream(1, number, "proposal")
        )
        names = module_names(changed.code) if changed else []
        assert len(names) == len(set(names))


def test_draft_names_both_parents_of_a_crossing_only() -> None:
    crossed = drafted("quest", "sparq", 0, (BY_NAME["switch"],))
    tuned = drafted("quest", "sparq", 0, (BY_NAME["vary"],))
    assert crossed.parents == (parent("quest").hash, parent("sparq").hash)
    assert tuned.parents == (parent("quest").hash,)


@pytest.mark.parametrize("name", ["vary", "wrap", "share_layers", "exchange_operator", "switch"])
def test_comments_and_docstring_of_the_parent_survive(name: str) -> None:
    changed = BY_NAME[name].apply(parse(SEEDS["sparq"]), (parse(SEEDS["quest"]),), np.random.default_rng(0))
    assert changed is not None
    assert changed.code.startswith(SEEDS["sparq"].split("\n")[0])
    assert "# of the budget goes into reading channels" in changed.code
    assert "# [G, count], shared by the query heads" in changed.code


def test_lineage_of_twenty_changes_stays_clean() -> None:
    drafting = Drafting(is_clean)
    source, other = SEEDS["squeezed_attention_sampled"], SEEDS["sparq"]
    for number in range(20):
        parents = (Parent("child", source, 0.0, ""), Parent("other", other, 0.0, ""))
        source = drafting.draft(parents, stream(5, number, "proposal")).source
    assert is_clean(source)


@given(value=st.integers(1, 10_000), seed=st.integers(0, 1_000))
def test_tuned_integers_stay_integers_and_positive(value: int, seed: int) -> None:
    new = stepped(cst.Integer(str(value)), 1.0, np.random.default_rng(seed))
    assert isinstance(new, cst.Integer)
    assert new.evaluated_value >= 1
    assert new.evaluated_value != value


@given(value=st.floats(0.001, 0.999), seed=st.integers(0, 1_000))
def test_tuned_shares_stay_shares_of_three_digits(value: float, seed: int) -> None:
    new = stepped(cst.Float(f"{value:.3f}"), 2.0, np.random.default_rng(seed))
    assert isinstance(new, cst.Float)
    assert 0 < float(new.value) < 1
    assert float(f"{float(new.value):.3g}") == float(new.value)


def test_tuning_leaves_axes_indices_and_shapes_alone() -> None:
    source = "class Policy:\n    def select(self, query, cache, budget, generator):\n"
    source += "        x = query.softmax(-1).sum(1).view(3, 4)[:, 5:7]\n        return x, x\n"
    assert vary(parse(source), (), np.random.default_rng(0)) is None


@pytest.mark.parametrize("layers", [1, 2, 3, 30])
def test_layer_shares_hold_for_any_number_of_layers(layers: int) -> None:
    share = BY_NAME["share_layers"].apply
    for seed in range(12):
        changed = share(parse(SEEDS["streaming_llm"]), (), np.random.default_rng(seed))
        assert changed is not None
        tree = ast.parse(changed.code)
        names = {node.targets[0].id: node.value.value for node in tree.body if isinstance(node, ast.Assign)}
        (method,) = (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name == "layer_shares"
        )
        shares = eval(ast.unparse(method.body[0].value), {**names, "layers": layers})
        assert len(shares) == layers
        assert min(shares) > 0
