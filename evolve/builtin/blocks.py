"""Statements and blocks: copied from elsewhere or a second parent, taken out, and repeated."""

import builtins
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.borrow import borrowed
from evolve.builtin.crossover import state
from evolve.builtin.functions import Function, bound_before, functions, lines, statements
from evolve.builtin.syntax import (
    Site,
    definitions,
    names_in,
    policy,
    read_by,
    renamed,
    replaced,
    sites,
    statement,
    with_body,
    with_constant,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator

BUILTINS = frozenset(dir(builtins)) - {"exit", "input", "open", "print", "quit"}
LONGEST = 12  # lines of a block that is moved about


def insert_block(
    module: cst.Module, others: tuple[cst.Module, ...], random: "Generator"
) -> cst.Module | None:
    """Copies a statement or block, from a second parent or the same program, to where all that it reads is
    known.
    """
    donor = others[0] if others and random.random() < 0.6 else module
    blocks = [line for function in functions(donor) for _, _, line in lines(function) if _is_movable(line)]
    targets = [
        (function, site, place) for function in functions(module) for site, place, _ in lines(function)
    ]
    if not blocks or not targets:
        return None
    for _ in range(8):
        line = blocks[random.integers(len(blocks))]
        function, site, place = targets[random.integers(len(targets))]
        bound = _bound(function, site, place)
        if bound & _written(line) and _fits(module, donor, bound, line):
            return _inserted(module, donor, site, place, line)
    return None


def _is_movable(line: cst.BaseStatement) -> bool:
    if isinstance(line, cst.SimpleStatementLine):
        return isinstance(line.body[0], cst.Assign | cst.AugAssign | cst.Expr)
    leaves = any(isinstance(site.node, cst.Return | cst.Break | cst.Continue) for site in sites(line))
    return (
        isinstance(line, cst.For | cst.If)
        and not leaves
        and cst.Module([]).code_for_node(line).count("\n") <= LONGEST
    )


def _bound(function: Function, site: Site, place: int) -> set[str]:
    """Names that have a value in front of a statement of a block."""
    assert isinstance(site.node, cst.IndentedBlock)
    return bound_before(function, Site(site.node.body[place], (*site.trail, site.node)))


def _written(line: cst.BaseStatement) -> set[str]:
    return set().union(*(written_by(part) for part in statements(line)))


def _fits(module: cst.Module, donor: cst.Module, bound: set[str], line: cst.BaseStatement) -> bool:
    """Whether all that a statement reads is there."""
    reads = set().union(*(read_by(part) for part in statements(line))) - _written(line)
    own_state = state(policy(module)) if policy(module) else state(module)
    known = bound | BUILTINS | set(definitions(donor)) | _imported(module)
    return reads <= known and state(line) <= own_state


def _imported(module: cst.Module) -> set[str]:
    return {
        name
        for site in sites(module)
        if isinstance(site.node, cst.Import | cst.ImportFrom)
        for name in names_in(site.node)
    }


def _inserted(
    module: cst.Module, donor: cst.Module, site: Site, place: int, line: cst.BaseStatement
) -> cst.Module:
    block = site.node
    assert isinstance(block, cst.IndentedBlock)
    names: dict[str, str] = {}
    changed = module
    if donor is not module:
        changed, names = borrowed(module, donor, [line])
    new: cst.BaseStatement = renamed(line.deep_clone(), names)
    return with_body(changed, block, [*block.body[:place], new, *block.body[place:]])


def remove_block(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Takes out a loop or condition as a whole, or keeps only one branch of a condition."""
    found = [
        (site.node, place, line)
        for function in functions(module)
        for site, place, line in lines(function)
        if isinstance(line, cst.For | cst.While | cst.If) and isinstance(site.node, cst.IndentedBlock)
    ]
    if not found:
        return None
    block, place, line = found[random.integers(len(found))]
    kept: list[cst.BaseStatement] = []
    if isinstance(line, cst.If) and random.random() < 0.5 and isinstance(line.body, cst.IndentedBlock):
        kept = list(line.body.body)
    body = [*block.body[:place], *kept, *block.body[place + 1 :]]
    return with_body(module, block, body or [statement("pass\n")])


def repeat(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Does a loop, or a statement that goes on from what it wrote, several times."""
    found = [
        (site.node, place, line)
        for function in functions(module)
        for site, place, line in lines(function)
        if isinstance(site.node, cst.IndentedBlock) and _goes_on(line)
    ]
    if not found:
        return None
    block, place, line = found[random.integers(len(found))]
    changed, name = with_constant(module, "REPEATS", str(int(random.integers(2, 6))))
    loop = statement(f"for _ in range({name}):\n    pass\n")
    assert isinstance(loop, cst.For)
    loop = loop.with_changes(body=loop.body.with_changes(body=[line]))
    return replaced(
        changed, {block: block.with_changes(body=[*block.body[:place], loop, *block.body[place + 1 :]])}
    )


def _goes_on(line: cst.BaseStatement) -> bool:
    if isinstance(line, cst.For):
        return _is_movable(line)
    if not isinstance(line, cst.SimpleStatementLine):
        return False
    return isinstance(line.body[0], cst.AugAssign) or bool(written_by(line) & read_by(line))
