"""Arithmetic of any program: expressions that are numbers, or arrays of numbers, are wrapped and blended."""

import math
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import Function, bound_before, functions
from evolve.builtin.kinds import Kind, kind_of
from evolve.builtin.selects import evicts, select_of
from evolve.builtin.syntax import (
    Site,
    code,
    expression,
    names_in,
    parenthesised,
    replaced,
    sites,
    with_constant,
    with_import,
)

if TYPE_CHECKING:
    from numpy.random import Generator

# text with {x}, and the range of the constant that it brings in place of {c} (drawn log-uniformly)
Form = tuple[str, tuple[str, float, float] | None]
FOR_NUMBERS: tuple[Form, ...] = (
    ("min({x}, {c})", ("LIMIT", 0.03, 3.0)),
    ("max({x}, {c})", ("FLOOR", 0.03, 3.0)),
    ("math.log1p(abs({x}))", None),
    ("math.sqrt(abs({x}))", None),
)
FOR_ALL: tuple[Form, ...] = (  # numbers and arrays alike
    ("{x} * {c}", ("SCALE", 0.3, 3.0)),
    ("{x} + {c}", ("BONUS", 0.01, 1.0)),
    ("abs({x}) ** {c}", ("POWER", 0.3, 3.0)),
    ("abs({x})", None),
)
FOR_ARRAYS: tuple[Form, ...] = (
    ("{np}.log1p(abs({x}))", None),
    ("{np}.sqrt(abs({x}))", None),
    ("{np}.clip({x}, -{c}, {c})", ("LIMIT", 0.03, 3.0)),
    ("{x} / ({np}.max(abs({x})) + 1e-9)", None),
    ("{x} - {np}.mean({x})", None),
)
AVERAGED = "{c} * {x} + (1 - {c}) * ({y})"
BLENDS = (
    "{x} + {c} * {y}",
    "{x} - {c} * {y}",
    "{x} * abs({y}) ** {c}",
    "{x} / (abs({y}) ** {c} + 1e-9)",
    "{x} * (1 + {c} * ({y} < {d} * {z}))",
    "{x} * (1 - {c} * ({y} < {d} * {z}))",
)
NUMERIC = (Kind.NUMBER, Kind.NUMERIC, Kind.FLOAT, Kind.POSITIVE)
NUMBER_FUNCTIONS = """
min max abs sum sqrt log log1p exp pow hypot clip minimum maximum append heappush mean round
"""
READS_NUMBERS = frozenset(NUMBER_FUNCTIONS.split())


def is_plain(module: cst.Module) -> bool:
    """Whether a program is no policy, whose numbers are mostly sizes."""
    return select_of(module) is None and not evicts(module)


def wrap_arithmetic(module: cst.Module, random: "Generator") -> cst.Module | None:
    """Puts a logarithm, a root, a power, a limit, a scale or a moving average around an expression."""
    found = [(function, site) for function in functions(module) for site in numeric_sites(function)]
    if not found:
        return None
    function, site = found[random.integers(len(found))]
    if random.random() < 0.15 and (averaged := _averaged(module, random)) is not None:
        return averaged
    node = site.node
    assert isinstance(node, cst.BaseExpression)
    kind = kind_of(node, function.known)
    forms = FOR_ALL
    if kind is Kind.NUMBER:
        forms += FOR_NUMBERS
    elif kind is not Kind.NUMERIC and function.library and not function.is_torch:
        forms += FOR_ARRAYS
    text, constant = forms[random.integers(len(forms))]
    changed, name = _with_constant(module, constant, random)
    text = text.format(x=parenthesised(node), c=name, np=function.library)
    changed = replaced(changed, {node: expression(f"({text})")})
    return with_import(changed, "math") if "math." in text else changed


def blend(module: cst.Module, _others: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Adds or multiplies another quantity of the same function to an expression, with a weight of its own."""
    found = [
        (function, site, others)
        for function in functions(module)
        for site in numeric_sites(function)
        if (others := _operands(function, site))
    ]
    if not found:
        return None
    _, site, others = found[random.integers(len(found))]
    assert isinstance(site.node, cst.BaseExpression)
    other = others[random.integers(len(others))]
    compared = [text for text in others if text != other] + [parenthesised(site.node)]
    third = compared[random.integers(len(compared))]
    text = BLENDS[random.integers(len(BLENDS))]
    changed, name = _with_constant(module, ("BLEND_SCALE", 0.03, 3.0), random)
    bound = ""
    if "{d}" in text:
        changed, bound = _with_constant(changed, ("BOUND_SCALE", 0.03, 3.0), random)
    text = text.format(x=parenthesised(site.node), y=other, z=third, c=name, d=bound)
    return replaced(changed, {site.node: expression(f"({text})")})


def numeric_sites(function: Function) -> list[Site]:
    """Expressions of a function that are quantities: neither an index, nor a size, nor written to."""
    return [
        site
        for site in sites(function.node)
        if isinstance(site.node, cst.BaseExpression)
        and not isinstance(site.node, cst.Integer | cst.Float | cst.Tuple | cst.List)
        and _is_read_as_quantity(site)
        and kind_of(site.node, function.known) in NUMERIC
    ]


def _is_read_as_quantity(site: Site) -> bool:
    inner: cst.CSTNode = site.node
    for outer in reversed(site.trail):
        match outer:
            case cst.Arg():
                pass
            case cst.Call(func=function):
                name = function.attr if isinstance(function, cst.Attribute) else function
                if inner is function or not isinstance(name, cst.Name) or name.value not in READS_NUMBERS:
                    return False
            case cst.BinaryOperation() | cst.UnaryOperation() | cst.Comparison() | cst.ComparisonTarget():
                pass
            case cst.Assign() | cst.AugAssign():
                return inner is outer.value
            case cst.Return() | cst.Lambda() | cst.If() | cst.IfExp():
                return True
            case cst.Tuple() | cst.Element():
                pass
            case _:
                return False
        inner = outer
    return False


def _operands(function: Function, site: Site) -> list[str]:
    """Texts of other quantities that can be computed where `site` stands."""
    bound = bound_before(function, site) | {name for name in function.known if name.isupper()}
    texts = {
        code(other.node)
        for other in numeric_sites(function)
        if isinstance(other.node, cst.Name | cst.Subscript | cst.Attribute)
        and names_in(other.node) <= bound
        and code(other.node) != code(site.node)
    }
    return sorted(texts)


def _averaged(module: cst.Module, random: "Generator") -> cst.Module | None:
    """A variable that a loop overwrites becomes a moving average of what it was and what it gets."""
    found = [
        (site.node, target.value)
        for function in functions(module)
        for site in sites(function.node)
        if isinstance(site.node, cst.Assign)
        and any(isinstance(outer, cst.For | cst.While) for outer in site.trail)
        and isinstance(target := site.node.targets[0].target, cst.Name)
        and kind_of(site.node.value, function.known) in NUMERIC
        and target.value in bound_before(function, site)
    ]
    if not found:
        return None
    assign, name = found[random.integers(len(found))]
    changed, weight = with_constant(module, "MEMORY", f"{random.uniform(0.1, 0.9):.2f}")
    text = AVERAGED.format(x=name, y=code(assign.value), c=weight)
    return replaced(changed, {assign.value: expression(text)})


def _with_constant(
    module: cst.Module, constant: tuple[str, float, float] | None, random: "Generator"
) -> tuple[cst.Module, str]:
    if constant is None:
        return module, ""
    wanted, low, high = constant
    value = low * math.exp(math.log(high / low) * random.random())
    return with_constant(module, wanted, f"{value:.3g}" if value % 1 else f"{value:.1f}")
