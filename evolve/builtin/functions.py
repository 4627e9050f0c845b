"""All functions of a program, with what mutation needs to know of each: its library, kinds and names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import libcst as cst

from evolve.builtin.kinds import AT_START, Kind, kinds_in
from evolve.builtin.selects import select_of
from evolve.builtin.syntax import (
    Site,
    block_of,
    code,
    evolved_part,
    names_in,
    references,
    sites,
    written_by,
)

LIBRARIES = ("torch", "numpy")


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method that has a body of its own."""

    node: cst.FunctionDef
    block: cst.IndentedBlock
    known: Mapping[str, Kind]  # of its variables
    library: str  # the name by which its program calls torch or numpy; "" for neither
    is_torch: bool


def functions(module: cst.Module) -> list[Function]:
    """Every function of the module and every method of its classes, as far as they may be changed."""
    library, is_torch = arrays(module)
    found = []
    for top in evolved_part(module):
        for site in sites(top) if isinstance(top, cst.FunctionDef | cst.ClassDef) else ():
            if isinstance(node := site.node, cst.FunctionDef) and (block := block_of(node)) is not None:
                given = _given(module, node)
                found.append(Function(node, block, kinds_in(block, given), library, is_torch))
    return found


def _given(module: cst.Module, node: cst.FunctionDef) -> Mapping[str, Kind]:
    """The kinds of the parameters: from the interface of a policy, from their defaults, or from their use."""
    select = select_of(module)
    if select and node is select[0]:
        return AT_START
    known: dict[str, Kind] = {}
    for parameter in node.params.params:
        if isinstance(parameter.default, cst.Integer | cst.Float):
            known[parameter.name.value] = Kind.NUMBER
        elif any(_counts(site) for site in references(node.body, parameter.name.value)):
            known[parameter.name.value] = Kind.NUMERIC
    return known


def _counts(site: Site) -> bool:
    """Whether a name is subtracted, divided or raised, as only numbers and arrays can be."""
    outer = site.trail[-1] if site.trail else None
    if isinstance(outer, cst.UnaryOperation):
        return isinstance(outer.operator, cst.Minus)
    return isinstance(outer, cst.BinaryOperation) and isinstance(
        outer.operator, cst.Subtract | cst.Divide | cst.Power
    )


def arrays(module: cst.Module) -> tuple[str, bool]:
    """The name by which a program calls its array library, and whether that is torch."""
    for site in sites(module):
        if isinstance(site.node, cst.ImportAlias):
            name = code(site.node.name)
            if name in LIBRARIES:
                called = site.node.asname.name if site.node.asname else None
                return (called.value if isinstance(called, cst.Name) else name), name == "torch"
    return "", False


def bound_before(function: Function, site: Site) -> set[str]:
    """Local names that have a value where `site` stands, whatever way led there."""
    bound = {parameter.name.value for parameter in function.node.params.params}
    inside = False
    for outer, inner in _steps(function, site):
        if isinstance(outer, cst.IndentedBlock):
            for line in outer.body:
                if line is inner:
                    break
                bound |= _surely(line)
        elif isinstance(outer, cst.For) and inner is outer.body:
            bound |= names_in(outer.target)
        inside = True
    return bound if inside else set()


def _surely(line: cst.BaseStatement) -> set[str]:
    """Names that a statement gives a value in any case."""
    if isinstance(line, cst.SimpleStatementLine):
        return written_by(line)
    if isinstance(line, cst.If) and isinstance(line.orelse, cst.Else):
        branches = [line.body, line.orelse.body]
        names = [
            set().union(*map(_surely, branch.body)) if isinstance(branch, cst.IndentedBlock) else set()
            for branch in branches
        ]
        return names[0] & names[1]
    return set()


def _steps(function: Function, site: Site) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    """From the body of the function down to the site: each node with the next one."""
    path = (*site.trail, site.node)
    start = next((place for place, node in enumerate(path) if node is function.block), None)
    if start is not None:
        yield from zip(path[start:], path[start + 1 :], strict=False)


def lines(function: Function) -> Iterator[tuple[Site, int, cst.BaseStatement]]:
    """Every statement of a function, with the site of the block that it stands in and its place there."""
    for site in sites(function.node):
        if isinstance(site.node, cst.IndentedBlock):
            for place, line in enumerate(site.node.body):
                yield site, place, line


def statements(line: cst.BaseStatement) -> list[cst.CSTNode]:
    """The simple statements in a statement, or itself."""
    found: list[cst.CSTNode] = [s.node for s in sites(line) if isinstance(s.node, cst.SimpleStatementLine)]
    return found or [line]
