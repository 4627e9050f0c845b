"""Cheaper functions: what a local search asks for thousands of times is not to index arrays number by number.

Only where nothing else changes: distances become one call, and arrays that a function reads and writes by
single indices of its loops become lists inside of it, which are many times faster at that.
"""

import re
from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import Function, functions
from evolve.builtin.syntax import (
    Site,
    code,
    expression,
    parameters,
    references,
    replaced,
    sites,
    statement,
    with_import,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTANCE = re.compile(r"np\.sqrt\(np\.sum\(\(([\w\[\]]+) - ([\w\[\]]+)\) ?\*\* ?2\)\)")
MADE = re.compile(r"np\.(ones|zeros)\(\w+\)")


def cheaper(module: cst.Module) -> cst.Module:
    """The module with cheaper functions, which return the same but for the rounding of distances."""
    changes: dict[cst.CSTNode, cst.CSTNode] = {}
    for function in functions(module):
        for site in sites(function.node):
            found = DISTANCE.fullmatch(code(site.node)) if isinstance(site.node, cst.Call) else None
            if found:
                changes[site.node] = expression(f"math.dist({found[1]}, {found[2]})")
    if changes:
        module = with_import(replaced(module, changes), "math")
    changes = {one.block: _with_lists(one) for one in functions(module) if one.library == "np"}
    return replaced(module, changes)


def _with_lists(function: Function) -> cst.IndentedBlock:
    """The body of a function whose arrays are lists, as far as it takes single elements of them alone."""
    changes: dict[cst.CSTNode, cst.CSTNode] = {}
    counters = _counters(function)
    lines = [*function.block.body]
    for name in parameters(function.node):
        uses = references(function.block, name)
        elements = [site.trail[-1] for site in uses if _is_element(site, counters)]
        sizes = [size for site in uses if (size := _size(site)) is not None]
        if len(elements) + len(sizes) == len(uses) and _are_rows(function, elements):
            changes |= {size: expression(f"len({name})") for size in sizes}
            place = 1 if isinstance(_simple(lines[0]), cst.Expr) else 0
            lines.insert(place, statement(f"{name} = np.asarray({name}).tolist()\n"))
    for line in function.block.body:
        part = _simple(line)
        if isinstance(part, cst.Assign) and MADE.fullmatch(code(part.value)):
            changes |= _as_list(function, part, counters)
    return function.block.with_changes(body=[replaced(line, changes) for line in lines])


def _as_list(function: Function, made: cst.Assign, counters: set[str]) -> dict[cst.CSTNode, cst.CSTNode]:
    """What makes an array a list until it is returned; nothing where it is used in another way."""
    name = code(made.targets[0].target)
    if not isinstance(made.targets[0].target, cst.Name):
        return {}
    changes: dict[cst.CSTNode, cst.CSTNode] = {made.value: expression(f"{code(made.value)}.tolist()")}
    for site in references(function.block, name):
        outer = site.trail[-1]
        if isinstance(outer, cst.Return):
            changes[site.node] = expression(f"np.array({name})")
        elif not _is_element(site, counters) and outer is not made.targets[0]:
            return {}
    return changes


def _counters(function: Function) -> set[str]:
    """Names of what counts in loops."""
    return {
        code(site.node.target)
        for site in sites(function.node)
        if isinstance(site.node, cst.For)
        and isinstance(site.node.iter, cst.Call)
        and code(site.node.iter.func) == "range"
    }


def _is_element(site: Site, counters: set[str]) -> bool:
    """Whether a name stands for one of its elements, by a single index."""
    outer = site.trail[-1]
    if not isinstance(outer, cst.Subscript) or outer.value is not site.node or len(outer.slice) != 1:
        return False
    index = outer.slice[0].slice
    return isinstance(index, cst.Index) and (
        isinstance(index.value, cst.Integer) or code(index.value) in counters
    )


def _size(site: Site) -> cst.CSTNode | None:
    """The expression that asks how many elements a name has, if it stands in one."""
    if len(site.trail) < 2:
        return None
    outer, above = site.trail[-1], site.trail[-2]
    if isinstance(outer, cst.Attribute) and code(above) == f"{code(site.node)}.shape[0]":
        return above
    if isinstance(outer, cst.Arg) and code(above) == f"len({code(site.node)})":
        return above
    return None


def _are_rows(function: Function, elements: "Iterable[cst.CSTNode]") -> bool:
    """Whether elements are taken apart or measured between, all of them, as rows of numbers are."""
    wanted = set(elements)
    found = 0
    for site in sites(function.block):
        if site.node not in wanted:
            continue
        outer, above = site.trail[-1], site.trail[-2]
        apart = isinstance(outer, cst.Assign) and isinstance(outer.targets[0].target, cst.Tuple)
        between = (
            isinstance(outer, cst.Arg) and isinstance(above, cst.Call) and code(above.func) == "math.dist"
        )
        if not (apart or between):
            return False
        found += 1
    return found > 0


def _simple(line: cst.BaseStatement) -> cst.CSTNode | None:
    return line.body[0] if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1 else None
