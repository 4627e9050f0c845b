"""Specialisation: one value of a constant for small budgets or first layers, another for the rest."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.selects import asked_of, selection_of
from evolve.builtin.syntax import (
    constants,
    definitions,
    expression,
    fresh,
    methods,
    names_in,
    references,
    replaced,
    sites,
    with_constant,
)
from evolve.builtin.vary import stepped

if TYPE_CHECKING:
    from numpy.random import Generator


def specialise(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Gives a constant another value where the budget (or epsilon) is small, or in the first layers."""
    select = selection_of(module)
    if select is None:
        return None
    conditions = {asked_of(module)[1], "FIRST_LAYERS"}
    named = {
        name: assign
        for name, assign in constants(module).items()
        if not any(name.startswith(taken) for taken in conditions)
    }
    direct = [name for name in named if references(select[1], name)]
    passed = [
        (name, function)
        for function in definitions(module).values()
        if isinstance(function, cst.FunctionDef) and _called_only_in(module, select[0], function)
        for name in named
        if references(function.body, name)
    ]
    options: list[tuple[str, cst.FunctionDef | None]] = [(name, None) for name in direct]
    options += passed
    if not options:
        return None
    name, function = options[random.integers(len(options))]
    value = cst.Module([]).code_for_node(stepped(named[name].value, 1.0, random))
    changed, special = with_constant(module, f"{name.rstrip('_0123456789')}_SPECIAL", value)
    changed, choice = _choice(changed, name, special, select[2], random)
    select = selection_of(changed)
    if select is None:
        return None
    if function is None:
        sited = [site.node for site in references(select[1], name)]
        return replaced(changed, {node: expression(f"({choice})") for node in sited})
    return _passed(changed, function, name, choice)


def _choice(
    module: cst.Module, name: str, special: str, view: str, random: "Generator"
) -> tuple[cst.Module, str]:
    asked, small = asked_of(module)
    existing = [known for known in constants(module) if known.startswith((small, "FIRST_LAYERS"))]
    if existing and random.random() < 0.5:
        limit = existing[random.integers(len(existing))]
    elif random.random() < 0.6:
        module, limit = with_constant(module, small, f"{0.01 * 30 ** random.random():.3f}")
    else:
        module, limit = with_constant(module, "FIRST_LAYERS", "1")
    measured = asked if limit.startswith(small) else f"{view}.layer"
    return module, f"{special} if {measured} < {limit} else {name}"


def _called_only_in(module: cst.Module, select: cst.FunctionDef, function: cst.FunctionDef) -> bool:
    name = function.name.value
    everywhere = [
        site for site in references(module, name) if not isinstance(site.trail[-1], cst.FunctionDef)
    ]
    inside = [site for site in references(select, name) if isinstance(site.trail[-1], cst.Call)]
    return bool(inside) and len(everywhere) == len(inside) and name not in methods(module)


def _passed(module: cst.Module, function: cst.FunctionDef, name: str, choice: str) -> cst.Module:
    """`function` gets the constant as one more argument."""
    parameter = fresh(name.lower(), names_in(module))
    changes: dict[cst.CSTNode, cst.CSTNode] = {
        site.node: cst.Name(parameter) for site in references(function.body, name)
    }
    body = replaced(function.body, changes)
    params = function.params.with_changes(params=[*function.params.params, cst.Param(cst.Name(parameter))])
    calls = [
        site.node
        for site in sites(module)
        if isinstance(site.node, cst.Call)
        and isinstance(site.node.func, cst.Name)
        and site.node.func.value == function.name.value
    ]
    new_calls: dict[cst.CSTNode, cst.CSTNode] = {
        call: call.with_changes(
            args=[
                *call.args,
                cst.Arg(
                    expression(choice),
                    keyword=cst.Name(parameter),
                    equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
                ),
            ]
        )
        for call in calls
    }
    return replaced(module, {function: function.with_changes(params=params, body=body), **new_calls})
