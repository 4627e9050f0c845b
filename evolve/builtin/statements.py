"""Insertion, deletion, repetition and moves of statements."""

from typing import TYPE_CHECKING

import libcst as cst

from evolve.builtin.functions import functions
from evolve.builtin.kinds import REAL, kind_of, kinds_in
from evolve.builtin.selects import select_of
from evolve.builtin.syntax import (
    Statement,
    code,
    names_in,
    read_by,
    sites,
    statement,
    with_body,
    with_constant,
    written_by,
)

if TYPE_CHECKING:
    from numpy.random import Generator

# {x}: a variable by which tokens are ranked [G, N]; {c}: a new constant from (name, lowest, highest)
SNIPPETS: tuple[tuple[str, tuple[str, float, float]], ...] = (
    ("{x}[:, :{c}] = torch.inf", ("SINKS", 1, 16)),
    ("{x}[:, -{c}:] = torch.inf", ("WINDOW", 2, 64)),
    ("{x}[:, :-{c}] *= {d}", ("WINDOW", 32, 512)),
    ("{x} = {x} + {c} * {x}.roll(1, -1).clamp(-1e4, 1e4)", ("SPREAD_SCALE", 0.03, 1.0)),
    ("{x} = {x} + {c} * {x}.roll(-1, -1).clamp(-1e4, 1e4)", ("SPREAD_SCALE", 0.03, 1.0)),
    (
        "{x} = {x} + {c} * {x}.clamp(-1e4, 1e4).std() * torch.linspace(0, 1, {x}.shape[-1])",
        ("RECENCY_BONUS", 0.03, 1.0),
    ),
)
READ_RESULT = 0.05  # probability that a deleted statement may be one whose result is read


def ranked(select: cst.IndentedBlock) -> list[tuple[cst.IndentedBlock, int, str]]:
    """Where tokens are ranked: the block, the place of the statement that sorts, the variable sorted by."""
    known = kinds_in(select)
    return [
        (site.node, place, name.value)
        for site in sites(select)
        if isinstance(site.node, cst.IndentedBlock)
        for place, line in enumerate(site.node.body)
        if isinstance(line, cst.SimpleStatementLine)
        for name in _sorted_by(line)
        if kind_of(name, known) in REAL
    ]


def _sorted_by(line: cst.SimpleStatementLine) -> list[cst.Name]:
    """Variables that the statement sorts itself, or hands to a function of the candidate that does."""
    found = []
    for site in sites(line):
        if isinstance(site.node, cst.Call):
            function, value = site.node.func, None
            if isinstance(function, cst.Attribute) and function.attr.value in ("topk", "argsort"):
                value = function.value
            elif isinstance(function, cst.Name) and len(site.node.args) > 1:
                value = site.node.args[0].value
            match value:  # the newest tokens may be joined on
                case cst.Call(args=[cst.Arg(value=cst.List(elements=[cst.Element(value=first), *_])), *_]):
                    value = first
            if isinstance(value, cst.Name):
                found.append(value)
    return found


def insert(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Adds a small statement that favours some tokens just before they are ranked."""
    select = select_of(module)
    found = ranked(select[1]) if select else []
    if not found:
        return None
    block, place, name = found[random.integers(len(found))]
    text, (wanted, low, high) = SNIPPETS[random.integers(len(SNIPPETS))]
    value = low * (high / low) ** random.random()
    number = f"{value:.2f}" if isinstance(low, float) else str(round(value))
    changed, constant = with_constant(module, wanted, number)
    damping = ""
    if "{d}" in text:
        changed, damping = with_constant(changed, "OLD_SCALE", f"{random.uniform(0.3, 1.0):.2f}")
    new = statement(text.format(x=name, c=constant, d=damping) + "\n")
    return with_body(changed, block, [*block.body[:place], new, *block.body[place:]])


def delete(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Removes a statement, mostly one whose result nobody reads."""
    found = []
    for block, place, line in _lines(module):
        needed = written_by(line) & set().union(*(names_in(later) for later in block.body[place + 1 :]))
        if not needed or random.random() < READ_RESULT:
            found.append((block, place))
    if not found:
        return None
    block, place = found[random.integers(len(found))]
    return with_body(module, block, [*block.body[:place], *block.body[place + 1 :]])


def move(module: cst.Module, _: tuple[cst.Module, ...], random: "Generator") -> cst.Module | None:
    """Repeats a statement further down, or exchanges it with the next one."""
    repeats = random.random() < 0.4
    found = [
        (block, place)
        for block, place, line in _lines(module)
        if place + 2 < len(block.body)
        and (_repeatable(line) if repeats else _exchangeable(line, block.body[place + 1]))
    ]
    if not found:
        return None
    block, place = found[random.integers(len(found))]
    body = list(block.body)
    if repeats:
        body.insert(place + 1, body[place].deep_clone())
    else:
        body[place], body[place + 1] = body[place + 1], body[place]
    return with_body(module, block, body)


def _lines(module: cst.Module) -> list[tuple[cst.IndentedBlock, int, Statement]]:
    """Statements of functions that may go, with their blocks; a block keeps at least one statement."""
    return [
        (site.node, place, line)
        for function in functions(module)
        for site in sites(function.node)
        if isinstance(site.node, cst.IndentedBlock) and len(site.node.body) > 1
        for place, line in enumerate(site.node.body)
        if isinstance(line, cst.SimpleStatementLine) and not isinstance(line.body[0], cst.Return)
    ]


def _repeatable(line: cst.BaseStatement) -> bool:
    """Whether doing it twice is another thing than doing it once: it reads what it writes."""
    return bool(written_by(line) & read_by(line)) and "append" not in code(line)


def _exchangeable(line: cst.BaseStatement, following: cst.BaseStatement) -> bool:
    """Whether the order matters at all and the second can stand first."""
    if not isinstance(following, cst.SimpleStatementLine) or isinstance(following.body[0], cst.Return):
        return False
    return not (written_by(line) & read_by(following)) or bool(read_by(line) & written_by(following))
