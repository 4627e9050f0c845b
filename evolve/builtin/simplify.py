"""Simplification: code that decides nothing is taken out.

A deletion is a proposal like any other: it is kept in place of its parent if the behaviour hash stays.
"""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import functions, lines
from evolve.builtin.syntax import (
    constants,
    names_in,
    references,
    replaced,
    sites,
    with_body,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator

MOST = 3  # deletions at a time


def simplify(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Takes out what surely does nothing; where there is no such thing, something that may do nothing."""
    if (cleaned := without_dead_code(module)) is not module:
        return cleaned
    changed = None
    for _turn in range(int(random.integers(1, MOST + 1))):
        ways = (_statement, _branch, _operand)
        for way in random.permutation(len(ways)):
            if (shorter := ways[way](changed or module, random)) is not None:
                changed = shorter
                break
    return changed


def without_dead_code(module: cst.Module) -> cst.Module:
    """`module` without statements behind a return and assignments that nobody reads."""
    while (changed := _one_less(module)) is not None:
        module = changed
    return module


def _one_less(module: cst.Module) -> cst.Module | None:
    for function in functions(module):
        read = [site.node.value for site in references(function.node) if isinstance(site.node, cst.Name)]
        for site, place, line in lines(function):
            block = site.node
            assert isinstance(block, cst.IndentedBlock)
            if isinstance(line, cst.SimpleStatementLine) and isinstance(line.body[-1], cst.Return):
                if place + 1 < len(block.body):
                    return with_body(module, block, block.body[: place + 1])
            elif _is_unread(line, read) and len(block.body) > 1:
                return with_body(module, block, [*block.body[:place], *block.body[place + 1 :]])
    return None


def _is_unread(line: cst.BaseStatement, read: list[str]) -> bool:
    """Whether a statement assigns a local variable that stands nowhere else, from what can have no effect."""
    if not isinstance(line, cst.SimpleStatementLine) or not isinstance(assign := line.body[0], cst.Assign):
        return False
    target = assign.targets[0].target
    return (
        isinstance(target, cst.Name)
        and read.count(target.value) == 1
        and not any(isinstance(site.node, cst.Call | cst.Await) for site in sites(assign.value))
    )


def _statement(module: cst.Module, random: "Generator") -> cst.Module | None:
    found = [
        (site.node, place)
        for function in functions(module)
        for site, place, line in lines(function)
        if isinstance(site.node, cst.IndentedBlock)
        and len(site.node.body) > 1
        and not (isinstance(line, cst.SimpleStatementLine) and isinstance(line.body[-1], cst.Return))
        and not _is_needed(site.node, place, line)
    ]
    if not found:
        return None
    block, place = found[random.integers(len(found))]
    return with_body(module, block, [*block.body[:place], *block.body[place + 1 :]])


def _is_needed(block: cst.IndentedBlock, place: int, line: cst.BaseStatement) -> bool:
    """Whether a later statement reads what only this one gives a value."""
    later = set().union(*(names_in(other) for other in block.body[place + 1 :]))
    before = set().union(*(written_by(other) for other in block.body[:place]))
    return bool((written_by(line) & later) - before)


def _branch(module: cst.Module, random: "Generator") -> cst.Module | None:
    """One branch of a condition stands for both."""
    found = [
        (site.node, place, line)
        for function in functions(module)
        for site, place, line in lines(function)
        if isinstance(line, cst.If) and isinstance(site.node, cst.IndentedBlock)
    ]
    if not found:
        return None
    block, place, line = found[random.integers(len(found))]
    kept: list[cst.BaseStatement] = []
    other = line.orelse
    if random.random() < 0.5:
        kept = list(line.body.body) if isinstance(line.body, cst.IndentedBlock) else []
    elif isinstance(other, cst.If):
        kept = [other]
    elif isinstance(other, cst.Else) and isinstance(other.body, cst.IndentedBlock):
        kept = list(other.body.body)
    body = [*block.body[:place], *kept, *block.body[place + 1 :]]
    return with_body(module, block, body) if body else None


def _operand(module: cst.Module, random: "Generator") -> cst.Module | None:
    """One operand of an operation, or one value of a conditional expression, stands for the whole."""
    found: list[tuple[cst.CSTNode, cst.BaseExpression]] = []
    named = set(constants(module))
    for function in functions(module):
        for site in sites(function.node):
            if isinstance(node := site.node, cst.BinaryOperation):
                sides = (node.left, node.right)
                plain = [side for side in sides if not _is_constant(side, named)]
                found += [(node, side) for side in plain]
            elif isinstance(node, cst.IfExp):
                found += [(node, node.body), (node, node.orelse)]
    if not found:
        return None
    node, kept = found[random.integers(len(found))]
    return replaced(module, {node: kept})


def _is_constant(node: cst.BaseExpression, named: set[str]) -> bool:
    return isinstance(node, cst.Integer | cst.Float) or (isinstance(node, cst.Name) and node.value in named)
