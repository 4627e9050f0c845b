"""Choices: truth values, directions, and functions that take the same arguments."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import Function, functions
from evolve.builtin.selects import select_of
from evolve.builtin.syntax import Site, code, constants, evolved_part, replaced, sites

if TYPE_CHECKING:
    from numpy.random import Generator

FLAGS = frozenset({"reverse", "descending", "largest", "stable"})
ALTERNATIVES: tuple[tuple[str, ...], ...] = (
    ("min", "max"),
    ("argmin", "argmax"),
    ("amin", "amax"),
    ("minimum", "maximum"),
    ("nsmallest", "nlargest"),
    ("floor", "ceil", "round"),
    ("sin", "cos"),
    ("exp", "expm1", "sqrt", "log1p"),
    ("sum", "mean", "max", "min", "median", "prod", "std"),
    ("bisect_left", "bisect_right"),
)
WIDTH = 2.0  # of the jump of a whole number, on a logarithmic scale


def choose(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Flips a truth value, exchanges a function for one with the same arguments, or lets a whole number
    jump.
    """
    ways = (_flipped, _exchanged, _jumped, _sign)
    for way in random.permutation(len(ways)):
        if (changed := ways[way](module, random)) is not None:
            return changed
    return None


def _flipped(module: cst.Module, random: "Generator") -> cst.Module | None:
    found = [
        site.node
        for top in evolved_part(module)
        for site in sites(top)
        if isinstance(site.node, cst.Name)
        and site.trail
        and site.node.value in ("True", "False")
        and (isinstance(site.trail[-1], cst.Assign | cst.IfExp) or _is_flag(site.trail[-1]))
    ]
    if not found:
        return None
    name = found[random.integers(len(found))]
    return replaced(module, {name: cst.Name("False" if name.value == "True" else "True")})


def _is_flag(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value in FLAGS


def _exchanged(module: cst.Module, random: "Generator") -> cst.Module | None:
    found = []
    for function in functions(module):
        for site in sites(function.node):
            if isinstance(site.node, cst.Call) and not _guards(site):
                name = site.node.func.attr if isinstance(site.node.func, cst.Attribute) else site.node.func
                if isinstance(name, cst.Name):
                    found += [(name, other) for other in _others(name.value, site.node, function)]
    if not found:
        return None
    name, other = found[random.integers(len(found))]
    return replaced(module, {name: cst.Name(other)})


def _guards(site: Site) -> bool:
    """Whether it belongs to a condition that a full budget needs."""
    return any(isinstance(outer, cst.Comparison) and "budget" in code(outer) for outer in site.trail)


def _others(name: str, call: cst.Call, function: Function) -> list[str]:
    """Other functions with the same arguments, where the same name calls them."""
    is_builtin = isinstance(call.func, cst.Name)
    others = {other for names in ALTERNATIVES if name in names for other in names} - {name}
    if is_builtin:
        return sorted(others & {"min", "max", "nsmallest", "nlargest"} if name != "sum" else set())
    if function.is_torch and name in ("max", "min", "sum", "mean", "median"):
        return []  # torch gives other things with an axis: `exchange_operator` knows them
    if isinstance(call.func, cst.Attribute) and code(call.func.value) == "math":
        others &= {"floor", "ceil", "sin", "cos", "exp", "expm1", "sqrt", "log1p"}
    return sorted(others)


def _jumped(module: cst.Module, random: "Generator") -> cst.Module | None:
    """A whole number goes far, further than a step would."""
    found = [assign.value for assign in constants(module).values() if isinstance(assign.value, cst.Integer)]
    if not found:
        return None
    node = found[random.integers(len(found))]
    value = max(1, round(node.evaluated_value * float(2.0 ** random.uniform(-WIDTH, WIDTH))))
    if value == node.evaluated_value:
        value += 1
    return replaced(module, {node: cst.Integer(str(value))})


def _sign(module: cst.Module, random: "Generator") -> cst.Module | None:
    """A key or criterion is turned round: what was preferred is avoided."""
    if select_of(module) is not None:
        return None
    found = [
        site.node.body
        for top in evolved_part(module)
        for site in sites(top)
        if isinstance(site.node, cst.Lambda)
    ]
    if not found:
        return None
    body = found[random.integers(len(found))]
    if isinstance(body, cst.UnaryOperation) and isinstance(body.operator, cst.Minus):
        return replaced(module, {body: body.expression})
    if isinstance(body, cst.Tuple):
        return None
    return replaced(module, {body: cst.parse_expression(f"-({code(body)})")})
