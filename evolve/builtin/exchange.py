"""Exchanges: an operator, a reduction or a function for another one with a compatible signature."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import functions
from evolve.builtin.kinds import Kind, kind_of, kinds_in
from evolve.builtin.selects import select_of
from evolve.builtin.syntax import (
    Site,
    block_of,
    code,
    expression,
    methods,
    parenthesised,
    replaced,
    sites,
    with_constant,
)

if TYPE_CHECKING:
    from numpy.random import Generator

OPERATORS: tuple[tuple[type[cst.CSTNode], ...], ...] = (
    (cst.Add, cst.Subtract),
    (cst.Multiply, cst.Divide),
    (cst.LessThan, cst.LessThanEqual, cst.GreaterThan, cst.GreaterThanEqual),
)
REDUCTIONS = ("sum", "mean", "amax")
ELEMENTWISE = ("sqrt", "log1p", "square", "tanh", "sigmoid")  # finite for every input >= 0
SIGNED = ("tanh", "sigmoid", "abs", "square")  # finite for every input


def exchange_operator(
    module: cst.Module, _: tuple[cst.Module, ...], random: "Generator"
) -> cst.Module | None:
    """Swaps an arithmetic or comparison operator, a reduction, or sets the temperature of a softmax."""
    choice = random.random()
    if select_of(module) is None:
        return _other_operator(module, random)
    if choice < 0.4:
        return _other_reduction(module, random)
    if choice < 0.8:
        return _temperature(module, random)
    return _other_operator(module, random)


def exchange_function(
    module: cst.Module, _: tuple[cst.Module, ...], random: "Generator"
) -> cst.Module | None:
    """Calls another elementwise function, or a sigmoid instead of a softmax."""
    select = select_of(module)
    if select is None:
        return None
    known = kinds_in(select[1])
    found = [
        (site.node, others)
        for site in sites(select[1])
        if isinstance(site.node, cst.Call) and (others := _alternatives(site.node, known))
    ]
    if not found:
        return None
    call, others = found[random.integers(len(found))]
    return replaced(module, {call: expression(others[random.integers(len(others))])})


def _alternatives(call: cst.Call, known: dict[str, Kind]) -> list[str]:
    if not isinstance(call.func, cst.Attribute) or code(call.func.value) == "torch":
        return []
    name, owner = call.func.attr.value, call.func.value
    target = parenthesised(owner)
    if name == "softmax":
        return [
            f"{target}.sigmoid()",
            f"({target} - {target}.amax(-1, keepdim=True)).exp()",
            f"{target}.exp()",
        ]
    if name in ("exp", "sigmoid"):
        return [f"{target}.softmax(-1)"]
    if name in (*ELEMENTWISE, "abs") and not call.args:
        others = ELEMENTWISE if kind_of(owner, known) is Kind.POSITIVE else SIGNED
        return [f"{target}.{other}()" for other in others if other != name]
    return []


def _other_operator(module: cst.Module, random: "Generator") -> cst.Module | None:
    found = [
        (site, kinds)
        for function in functions(module)
        for site in sites(function.node)
        for kinds in OPERATORS
        if isinstance(site.node, kinds) and not _guards_dense(site)
    ]
    if not found:
        return None
    site, kinds = found[random.integers(len(found))]
    others = [kind for kind in kinds if not isinstance(site.node, kind)]
    return replaced(module, {site.node: others[random.integers(len(others))]()})


def _guards_dense(site: Site) -> bool:
    """Whether it belongs to `if cache.affordable(budget) >= cache.length`, which a budget of 100% needs."""
    return any(
        isinstance(node, cst.Comparison) and "length" in code(node) and "budget" in code(node)
        for node in site.trail
    )


def _other_reduction(module: cst.Module, random: "Generator") -> cst.Module | None:
    found = []
    for method in methods(module).values():
        block = block_of(method)
        if block is None:
            continue
        known = kinds_in(block)
        found += [
            site.node.func.attr
            for site in sites(block)
            if isinstance(site.node, cst.Call)
            and isinstance(site.node.func, cst.Attribute)
            and site.node.func.attr.value in REDUCTIONS
            and site.node.args
            and kind_of(site.node.func.value, known) in (Kind.FLOAT, Kind.POSITIVE)
        ]
    if not found:
        return None
    name = found[random.integers(len(found))]
    others = [other for other in REDUCTIONS if other != name.value]
    return replaced(module, {name: name.with_changes(value=others[random.integers(len(others))])})


def _temperature(module: cst.Module, random: "Generator") -> cst.Module | None:
    found = [
        site.node.func
        for method in methods(module).values()
        for site in sites(method)
        if isinstance(site.node, cst.Call)
        and isinstance(site.node.func, cst.Attribute)
        and site.node.func.attr.value in ("softmax", "sigmoid", "exp")
        and "_SCALE" not in code(site.node.func.value)
    ]
    if not found:
        return None
    function = found[random.integers(len(found))]
    scale = float(2.0 ** random.uniform(-2, 2))
    changed, name = with_constant(module, "SCORE_SCALE", f"{scale:.2f}")
    return replaced(changed, {function.value: expression(f"({parenthesised(function.value)} * {name})")})
