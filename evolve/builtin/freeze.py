"""Freezing: what a program made in its last run becomes what it starts from.

The feedback of a script tells what its functions returned. A variable of that result is set to it, as a table
of numbers, in front of a local search where there is one: the next candidate goes on where its parent ended.
"""

import ast
import re
from typing import TYPE_CHECKING, cast

import libcst as cst

from evolve.builtin.functions import Function, statements
from evolve.builtin.improve import Place, places
from evolve.builtin.syntax import (
    code,
    constants,
    definitions,
    fresh,
    names_in,
    replaced,
    sites,
    statement,
    with_definitions,
    written_by,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

RETURNED = re.compile(r"^returned (\w+)\(\) = (.+)$", re.MULTILINE)
MOST = 400  # numbers of a table
DIGITS = 9


def freeze(module: cst.Module, feedback: str, random: "Generator") -> cst.Module | None:
    """Sets an answer that the program can value to what its last run made of it."""
    found = []
    for name, text in RETURNED.findall(feedback):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        found += [
            (place, table)
            for place in places(module, module)
            if (table := _made(module, name, value, place)) is not None
        ]
    if not found:
        return None
    place, table = found[random.integers(len(found))]
    return _frozen(module, place, table, random)


def _made(module: cst.Module, name: str, value: object, place: Place) -> "list[object] | None":
    """What the run made of the variable of a place, if `name` hands it on: nested lists of numbers."""
    owner = definitions(module).get(name)
    if not isinstance(owner, cst.FunctionDef):
        return None
    returned = value if isinstance(value, tuple) else (value,)
    if owner is place.function.node:
        names = _ends(owner)
    else:  # it calls the other one, and returns the same in the same order
        calls = {code(site.node.func) for site in sites(owner) if isinstance(site.node, cst.Call)}
        names = _ends(place.function.node) if code(place.function.node.name) in calls else []
    if len(names) != len(returned) or place.variable not in names:
        return None
    found = returned[names.index(place.variable)]
    return found if isinstance(found, list) and 0 < len(_flat(found)) <= MOST else None


def _ends(function: cst.FunctionDef) -> list[str]:
    """Texts of what the last return of a function returns."""
    ends = [site.node.value for site in sites(function) if isinstance(site.node, cst.Return)]
    if not ends or ends[-1] is None:
        return []
    end = ends[-1]
    return [code(part.value) for part in end.elements] if isinstance(end, cst.Tuple) else [code(end)]


def _flat(value: "Sequence[object]") -> list[float]:
    """All numbers of nested lists; none where there is anything else in them."""
    numbers: list[float] = []
    for part in value:
        if isinstance(part, list):
            numbers += _flat(part)
        elif isinstance(part, int | float) and not isinstance(part, bool):
            numbers.append(part)
        else:
            return []
    return numbers


def _frozen(module: cst.Module, place: Place, table: list[object], random: "Generator") -> cst.Module | None:
    function, numbers = place.function, _flat(table)
    shape, inner = list[int](), cast("object", table)
    while isinstance(inner, list) and inner:
        shape.append(len(inner))
        inner = inner[0]
    name = fresh("TABLE", names_in(module))
    texts = [repr(number) if isinstance(number, int) else f"{number:.{DIGITS}g}" for number in numbers]
    constant = statement(f"{name} = ({', '.join(texts)},)\n")
    whole = all(isinstance(number, int) for number in numbers)
    if not whole and not function.library:
        return None
    value = (
        f"list({name})" if whole and len(shape) == 1 else f"{function.library}.array({name}).reshape({shape})"
    )
    body = _live(function, place, statement(f"{place.variable} = {value}\n"))
    changes: dict[cst.CSTNode, cst.CSTNode] = {function.block: function.block.with_changes(body=body)}
    for seed, assign in constants(module).items():
        if seed.startswith("SEED"):  # the same steps again would lead nowhere
            changes[assign.value] = cst.Integer(str(random.integers(1000)))
    changed = replaced(module, changes)
    return with_definitions(changed, [constant])


def _live(function: Function, place: Place, frozen: cst.BaseStatement) -> list[cst.BaseStatement]:
    """The body with the frozen variable, in front of a search for it, without what that makes superfluous."""
    body = list(function.block.body)
    number = place.number
    if "= improved" not in code(body[number]):
        number += 1
    later = [frozen, *body[number:]]
    needed = set().union(*(names_in(line) for line in later[1:])) - {place.variable}
    kept: list[cst.BaseStatement] = []
    for line in reversed(body[:number]):
        writes = set().union(*(written_by(part) for part in statements(line))) | _filled(line)
        leaves = any(isinstance(site.node, cst.Return) for site in sites(line))
        if leaves or writes & needed or not writes:
            kept.insert(0, line)
            needed |= names_in(line)
    return [*kept, *later]


def _filled(line: cst.BaseStatement) -> set[str]:
    """Names of containers that a statement writes into."""
    return {
        code(site.node.target.value)
        for site in sites(line)
        if isinstance(site.node, cst.AssignTarget) and isinstance(site.node.target, cst.Subscript)
    }
