"""The numbers of a program, as coordinates of a space in which a step means the same everywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import libcst as cst

from evolve.builtin.syntax import code, definitions, evolved_part, expression, replaced
from evolve.builtin.vary import LARGEST_WHOLE, ROUNDS, literal_sites, multiplies, written

MOST = 200  # numbers of one program that are tuned together
FARTHEST = 40.0  # from where a logarithm is taken
TINY = 1e-9
LOGIT = 1.5  # a step of a share is as wide as a step of another number, near a half


class Scale(Enum):
    """Along what a number moves."""

    LOGARITHMIC = "whole numbers from 1 on, and positive numbers"
    LOGISTIC = "shares in (0, 1), which stay shares"
    LINEAR = "all others"


@dataclass(frozen=True, eq=False)
class Number:
    """A number of a program: where it stands, and what it is."""

    node: cst.BaseExpression
    value: float
    whole: bool
    scale: Scale

    def coordinate(self, value: float) -> float:
        """Where `value` lies on the scale of this number."""
        match self.scale:
            case Scale.LOGARITHMIC:
                return math.log(max(value, TINY))
            case Scale.LOGISTIC:
                inside = min(max(value, TINY), 1 - TINY)
                return math.log(inside / (1 - inside)) / LOGIT
        return value

    def at(self, coordinate: float) -> cst.BaseExpression:
        """The number that stands at a coordinate, as it is written."""
        within = min(max(coordinate, -FARTHEST), FARTHEST) if self.scale is not Scale.LINEAR else coordinate
        value = within
        if self.scale is Scale.LOGARITHMIC:
            value = math.exp(within)
        elif self.scale is Scale.LOGISTIC:
            value = 1 / (1 + math.exp(-LOGIT * within))
        if self.whole:
            lowest = 1 if self.scale is Scale.LOGARITHMIC else -LARGEST_WHOLE
            return expression(str(min(max(round(value), lowest), LARGEST_WHOLE)))
        return expression(written(value))


def numbers(module: cst.Module) -> list[Number]:
    """The numbers that may be tuned: named constants with those in tuples and lists, or else, where a program
    names none, those in its expressions that are neither an index, an axis, a shape nor zero.
    """
    found: list[Number] = []
    inside = evolved_part(module)
    for name, node in definitions(module).items():
        if name.startswith(ROUNDS):  # more is better, and slower: no search is to find that out
            continue
        if node not in inside or not isinstance(node, cst.SimpleStatementLine):
            continue
        if isinstance(assign := node.body[0], cst.Assign):
            found += [_number(part, multiplies(name)) for part in _parts(assign.value)]
    if not found:
        found = [_number(site.node, False) for site in literal_sites(module)]
    return found[:MOST]


def _parts(value: cst.BaseExpression) -> list[cst.BaseExpression]:
    """The numbers in a constant: itself, or all in a tuple or list of nothing else."""
    if isinstance(value, cst.Tuple | cst.List):
        parts = [part for element in value.elements for part in _parts(element.value)]
        return parts if len(parts) >= len(value.elements) else []
    inner = value.expression if isinstance(value, cst.UnaryOperation) else value
    return [value] if isinstance(inner, cst.Integer | cst.Float) else []


def _number(node: cst.CSTNode, free: bool) -> Number:
    assert isinstance(node, cst.BaseExpression)
    text = code(node).replace("_", "").replace(" ", "")
    whole = not any(mark in text for mark in ".eE")
    value = float(text)
    if not whole and not free and 0 < value < 1:
        return Number(node, value, whole, Scale.LOGISTIC)
    return Number(node, value, whole, Scale.LOGARITHMIC if value > 0 else Scale.LINEAR)


def at(module: cst.Module, found: Sequence[Number], coordinates: Sequence[float]) -> cst.Module:
    """The program with its numbers moved to other coordinates."""
    changes: dict[cst.CSTNode, cst.CSTNode] = {
        number.node: number.at(float(to)) for number, to in zip(found, coordinates, strict=True)
    }
    return replaced(module, changes)


def places(root: Sequence[Number], module: cst.Module) -> list[float] | None:
    """Where a program that differs from another in its numbers alone has them, on the scales of the other;
    None if it differs in more.
    """
    found = numbers(module)
    if len(found) != len(root):
        return None
    return [number.coordinate(now.value) for number, now in zip(root, found, strict=True)]
