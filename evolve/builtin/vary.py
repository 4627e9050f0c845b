"""Variation: other values for the numbers of a candidate."""

import math
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.syntax import Site, constants, evolved_part, expression, replaced, sites

if TYPE_CHECKING:
    from numpy.random import Generator

STEPS = (0.15, 0.5, 1.2)  # widths of a step on a logarithmic scale: polish, search, leap
STEP_WEIGHTS = (0.35, 0.45, 0.2)
MORE_NUMBERS = 0.4  # probability of each further number that is changed along
LITERAL = 0.1  # probability that a number is taken from an expression although there are named constants
NUMBER_CALLS = frozenset(
    ["clamp", "clamp_min", "clamp_max", "max", "min", "pow", "int", "float"]
)  # arguments that are no axis or shape
LARGEST_WHOLE = 1 << 20
ROUNDS = "ROUNDS"  # what constants that say how long a local search goes on are called
MOST_ROUNDS = 40_000
MORE_ROUNDS = 0.25  # probability that only the rounds of a local search grow
MULTIPLIERS = (
    "SCALE",
    "POWER",
    "BONUS",
    "SHARES",
    "TEMPERATURE",
    "LIMIT",
    "FLOOR",
)  # ends of names of numbers that may pass 1


def vary(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Changes the values of some module-level constants, seldom of a number inside an expression."""
    named = list(constants(module).items())
    literals = literal_sites(module) if not named or random.random() < LITERAL else []
    changes: dict[cst.CSTNode, cst.CSTNode] = {}
    if random.random() < MORE_ROUNDS and (longer := more_rounds(module, random)) is not None:
        return longer
    if literals:
        site = literals[random.integers(len(literals))]
        changes[site.node] = stepped(site.node, _width(random), random)
    elif named:
        order = random.permutation(len(named))
        count = 1
        while count < len(named) and random.random() < MORE_NUMBERS:
            count += 1
        width = _width(random)
        for place in order[:count]:
            name, assign = named[place]
            new = stepped(assign.value, width, random, free=multiplies(name))
            if name.startswith(ROUNDS) and isinstance(new, cst.Integer) and new.evaluated_value > MOST_ROUNDS:
                new = cst.Integer(str(MOST_ROUNDS))
            changes[assign.value] = new
    return replaced(module, changes) if changes else None


def more_rounds(module: cst.Module, random: "Generator") -> cst.Module | None:
    """Lets a local search in the program go on for longer; None where there is none, or it is long enough."""
    found = [
        assign.value
        for name, assign in constants(module).items()
        if name.startswith(ROUNDS)
        and isinstance(assign.value, cst.Integer)
        and assign.value.evaluated_value < MOST_ROUNDS
    ]
    if not found:
        return None
    node = found[random.integers(len(found))]
    grown = min(MOST_ROUNDS, round(node.evaluated_value * random.uniform(1.5, 4.0)))
    return replaced(module, {node: cst.Integer(str(grown))})


def multiplies(name: str) -> bool:
    """Whether a constant of this name may pass 1 although it lies below."""
    return name.rstrip("_0123456789").endswith(MULTIPLIERS)


def _width(random: "Generator") -> float:
    return float(random.choice(STEPS, p=STEP_WEIGHTS))


def literal_sites(module: cst.Module) -> list[Site]:
    """Numbers in expressions that are neither an index, an axis, a shape nor zero; defaults of parameters."""
    return [
        site
        for top in evolved_part(module)
        for site in sites(top)
        if isinstance(site.node, cst.Integer | cst.Float)
        and _is_quantity(site)
        and site.node.evaluated_value != 0
    ]


def _is_quantity(site: Site) -> bool:
    for ancestor in reversed(site.trail):
        if isinstance(ancestor, cst.Arg):
            call = next(node for node in reversed(site.trail) if isinstance(node, cst.Call))
            name = call.func.attr if isinstance(call.func, cst.Attribute) else call.func
            if not isinstance(name, cst.Name) or name.value not in NUMBER_CALLS:
                return False
            return ancestor.keyword is None or ancestor.keyword.value in ("min", "max")
        if isinstance(ancestor, cst.SubscriptElement | cst.UnaryOperation):
            return False
        if isinstance(ancestor, cst.Param):
            return ancestor.default is site.node
        if isinstance(ancestor, cst.BinaryOperation | cst.Comparison):
            continue
        if isinstance(ancestor, cst.BaseStatement):
            break
    return any(isinstance(node, cst.BinaryOperation | cst.Comparison) for node in site.trail)


def stepped(node: cst.CSTNode, width: float, random: "Generator", free: bool = False) -> cst.BaseExpression:
    """The number `node` after one random step of `width`.

    Integers stay integers of at least 1, shares in (0, 1) stay inside unless the number is `free`.
    """
    if isinstance(node, cst.UnaryOperation):
        return node.with_changes(expression=stepped(node.expression, width, random, free))
    if isinstance(node, cst.Integer):
        return expression(str(_whole(node.evaluated_value, width, random)))
    assert isinstance(node, cst.Float)
    return expression(written(_real(float(node.value.replace("_", "")), width, random, free)))


def _whole(value: int, width: float, random: "Generator") -> int:
    new = max(1, round(value * math.exp(width * random.standard_normal())))
    if new == value:
        new = max(1, value + (1 if random.random() < 0.5 else -1))
    return 2 if new == value == 1 else min(new, LARGEST_WHOLE)


def _real(value: float, width: float, random: "Generator", free: bool) -> float:
    step = width * random.standard_normal()
    if value == 0:
        return step
    if 0 < value < 1 and not free:
        return 1 / (1 + math.exp(-(math.log(value / (1 - value)) + 1.5 * step)))
    return value * math.exp(step)


def written(value: float) -> str:
    """A float with at most three significant digits; shares never round to 0 or 1."""
    if 0 < value < 1:
        value = min(max(value, 1e-6), 0.999)
    text = f"{value:.3g}"
    return text if any(mark in text for mark in ".e") else f"{text}.0"
