"""Candidates as syntax trees: what is defined where, which names are read, and how a part is replaced.

libcst keeps formatting and comments. Its own visitors cost more than a whole proposal may take, so trees are
walked here by their fields, without white space, and the walk of a module is remembered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from itertools import pairwise
from typing import TypeVar

import libcst as cst

SKIPPED = (
    cst.BaseParenthesizableWhitespace,
    cst.TrailingWhitespace,
    cst.EmptyLine,
    cst.Comma,
    cst.LeftParen,
    cst.RightParen,
    cst.LeftSquareBracket,
    cst.RightSquareBracket,
    cst.AssignEqual,
    cst.Dot,
    cst.Newline,
    cst.Semicolon,
    cst.Colon,
)
BLOCK_START, BLOCK_END = "EVOLVE-BLOCK-START", "EVOLVE-BLOCK-END"
Definition = cst.FunctionDef | cst.ClassDef | cst.SimpleStatementLine
Node = TypeVar("Node", bound=cst.CSTNode)
Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


@dataclass(frozen=True, eq=False)
class Site:
    """A node and its ancestors, outermost first."""

    node: cst.CSTNode
    trail: tuple[cst.CSTNode, ...]


@lru_cache(maxsize=512)
def parse(source: str) -> cst.Module:
    """The tree of a candidate; raises libcst.ParserSyntaxError. Trees are immutable, so they are shared."""
    return cst.parse_module(source)


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    plain = ("whitespace", "leading_lines", "lines_after", "lpar", "rpar", "comma", "header", "footer")
    return tuple(field.name for field in fields(kind) if not field.name.startswith(plain))


def _children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for name in _field_names(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            if not isinstance(value, SKIPPED):
                yield value
        elif isinstance(value, list | tuple):
            for part in value:
                if isinstance(part, cst.CSTNode) and not isinstance(part, SKIPPED):
                    yield part


def _walk(node: cst.CSTNode, trail: tuple[cst.CSTNode, ...]) -> Iterator[Site]:
    yield Site(node, trail)
    inner = (*trail, node)
    for child in _children(node):
        yield from _walk(child, inner)


@lru_cache(maxsize=512)
def sites(root: cst.CSTNode) -> tuple[Site, ...]:
    """Every node under `root`, itself included, in the order of the source."""
    return tuple(_walk(root, ()))


def replaced(root: Node, changes: Mapping[cst.CSTNode, cst.CSTNode]) -> Node:
    """`root` with every key of `changes`, found by identity, replaced by its value."""
    touched = {ancestor for site in sites(root) if site.node in changes for ancestor in site.trail}

    def rebuilt(node: cst.CSTNode) -> cst.CSTNode:
        if node in changes:
            return changes[node]
        if node not in touched:
            return node
        new: dict[str, object] = {}
        for name in _field_names(type(node)):
            value = getattr(node, name)
            if isinstance(value, cst.CSTNode):
                new[name] = rebuilt(value)
            elif isinstance(value, list | tuple):
                new[name] = [rebuilt(part) if isinstance(part, cst.CSTNode) else part for part in value]
        return node.with_changes(**new)

    result = rebuilt(root)
    assert isinstance(result, type(root))
    return result


def with_body(root: cst.Module, block: cst.IndentedBlock, body: Sequence[cst.BaseStatement]) -> cst.Module:
    """`root` in which `block` has the statements `body`."""
    return replaced(root, {block: block.with_changes(body=tuple(body))})


def statement(text: str) -> cst.SimpleStatementLine | cst.BaseCompoundStatement:
    """One statement from its text."""
    return cst.parse_statement(text)


def expression(text: str) -> cst.BaseExpression:
    """An expression from its text."""
    return cst.parse_expression(text)


def code(node: cst.CSTNode) -> str:
    """The text of a node without the comments around it."""
    return cst.Module([]).code_for_node(node).strip()


def parenthesised(node: cst.BaseExpression) -> str:
    """The text of an expression, safe as an operand or in front of a method."""
    text = code(node)
    plain = isinstance(node, cst.Name | cst.Call | cst.Attribute | cst.Subscript) or node.lpar
    return text if plain else f"({text})"


# --- definitions ---


def defined_name(node: cst.CSTNode) -> str | None:
    """The name that a module-level statement defines, None for the docstring, imports and anything else."""
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        return node.name.value
    if (
        isinstance(node, cst.SimpleStatementLine)
        and len(node.body) == 1
        and isinstance(node.body[0], cst.Assign)
    ):
        target = node.body[0].targets[0].target
        return target.value if isinstance(target, cst.Name) else None
    return None


def definitions(module: cst.Module) -> dict[str, Definition]:
    """Module-level constants, functions and classes by name."""
    return {
        name: node
        for node in module.body
        if isinstance(node, Definition) and (name := defined_name(node)) is not None
    }


def constants(module: cst.Module) -> dict[str, cst.Assign]:
    """Module-level `NAME = number` assignments by name, as far as they may be changed."""
    found = {}
    inside = evolved_part(module)
    for name, node in definitions(module).items():
        if (
            node in inside
            and isinstance(node, cst.SimpleStatementLine)
            and isinstance(assign := node.body[0], cst.Assign)
        ):
            value = assign.value.expression if isinstance(assign.value, cst.UnaryOperation) else assign.value
            if isinstance(value, cst.Integer | cst.Float):
                found[name] = assign
    return found


def policy(module: cst.Module) -> cst.ClassDef | None:
    """The class Policy."""
    found = definitions(module).get("Policy")
    return found if isinstance(found, cst.ClassDef) else None


def methods(module: cst.Module) -> dict[str, cst.FunctionDef]:
    """The methods of Policy by name."""
    found = policy(module)
    return (
        {node.name.value: node for node in found.body.body if isinstance(node, cst.FunctionDef)}
        if found
        else {}
    )


def block_of(function: cst.FunctionDef) -> cst.IndentedBlock | None:
    """The body of a function, None if it stands on the line of its `def`."""
    return function.body if isinstance(function.body, cst.IndentedBlock) else None


def parameters(function: cst.FunctionDef) -> tuple[str, ...]:
    """Names of the positional parameters."""
    return tuple(parameter.name.value for parameter in function.params.params)


# --- names ---


def is_reference(site: Site) -> bool:
    """Whether a Name stands for a variable, not for an attribute or a keyword."""
    parent = site.trail[-1] if site.trail else None
    if isinstance(parent, cst.Attribute):
        return parent.value is site.node
    return not (isinstance(parent, cst.Arg) and parent.keyword is site.node)


def references(root: cst.CSTNode, name: str | None = None) -> list[Site]:
    """Where variables (or the one called `name`) stand, written or read."""
    return [
        site
        for site in sites(root)
        if isinstance(site.node, cst.Name)
        and (name is None or site.node.value == name)
        and is_reference(site)
    ]


def names_in(root: cst.CSTNode) -> set[str]:
    """All names of variables, functions and parameters under `root`."""
    return {site.node.value for site in references(root) if isinstance(site.node, cst.Name)}


def written_by(node: cst.CSTNode) -> set[str]:
    """Names of variables that the statement `node` binds."""
    found = set()
    for site in references(node):
        kinds = cst.AssignTarget | cst.AnnAssign | cst.AugAssign | cst.For | cst.CompFor | cst.NamedExpr
        path = (*site.trail, site.node)
        for outer, inner in pairwise(path):
            if isinstance(outer, kinds) and getattr(outer, "target", None) is inner:
                between = path[path.index(inner) : -1]
                if all(isinstance(part, cst.Tuple | cst.Element | cst.Name) for part in between):
                    found.add(site.node.value if isinstance(site.node, cst.Name) else "")
    return found


def read_by(node: cst.CSTNode) -> set[str]:
    """Names of variables that the statement `node` needs."""
    if (
        isinstance(node, cst.SimpleStatementLine)
        and len(node.body) == 1
        and isinstance(node.body[0], cst.Assign)
    ):
        assign = node.body[0]
        needed = names_in(assign.value)
        for target in assign.targets:
            needed |= names_in(target) - written_by(node)
        return needed
    return names_in(node)


def renamed(root: Node, names: Mapping[str, str]) -> Node:
    """`root` with variables renamed."""
    return replaced(
        root,
        {
            site.node: site.node.with_changes(value=names[site.node.value])
            for site in references(root)
            if isinstance(site.node, cst.Name) and site.node.value in names
        },
    )


def fresh(wanted: str, taken: Iterable[str]) -> str:
    """`wanted`, with a number behind it if it is taken."""
    names = set(taken)
    number, name = 2, wanted
    while name in names:
        name = f"{wanted}_{number}"
        number += 1
    return name


# --- insertion ---


def with_constant(module: cst.Module, wanted: str, value: str) -> tuple[cst.Module, str]:
    """A new module-level constant: the module, and the name that it got."""
    name = fresh(wanted, names_in(module))
    return with_definitions(module, [statement(f"{name} = {value}\n")]), name


def with_definitions(module: cst.Module, new: Iterable[Statement]) -> cst.Module:
    """`module` with more definitions where it may be changed: constants behind the first constants, functions
    in front of the class, or else at the end.
    """
    for node in new:
        start, end = evolved(module)
        place = start
        while place < end and isinstance(module.body[place], cst.SimpleStatementLine):
            place += 1
        blank = [cst.EmptyLine(), cst.EmptyLine()]
        if isinstance(node, cst.SimpleStatementLine):
            after_import = place > start and defined_name(module.body[place - 1]) is None
            blank = blank[:after_import]
        else:
            classes = (n for n in range(start, end) if isinstance(module.body[n], cst.ClassDef))
            place = next(classes, end)
        module = _inserted(module, place, node.with_changes(leading_lines=blank))
    return module


def with_import(module: cst.Module, name: str) -> cst.Module:
    """`module` with `import name`, in front of its first import, if it is not there."""
    start, end = evolved(module)
    place = start
    for number, line in enumerate(module.body):
        part = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
        if isinstance(part, cst.Import) and any(
            code(alias.name) == name and not alias.asname for alias in part.names
        ):
            return module
        if isinstance(part, cst.Import | cst.ImportFrom) and start <= number < end and place == start:
            place = number
        elif number == place == start == 0 and isinstance(part, cst.Expr):
            place = 1  # behind the docstring
    line = cst.parse_statement(f"import {name}\n")
    first = module.body[place] if place < end else None
    if isinstance(first, cst.SimpleStatementLine) and isinstance(first.body[0], cst.Import | cst.ImportFrom):
        line = line.with_changes(leading_lines=first.leading_lines)
        body = [*module.body]
        body[place : place + 1] = [line, first.with_changes(leading_lines=[])]
        return module.with_changes(body=body)
    return _inserted(module, place, line)


def _inserted(module: cst.Module, place: int, node: Statement) -> cst.Module:
    """`module` with a statement more, which stays behind a marker that begins what may be changed."""
    body = [*module.body]
    following = body[place] if place < len(body) else None
    if following is not None and (lines := [*following.leading_lines]):
        marked = [n for n, line in enumerate(lines) if _says(line, BLOCK_START)]
        if marked:
            cut = marked[-1] + 1
            node = node.with_changes(leading_lines=[*lines[:cut], *node.leading_lines])
            body[place] = following.with_changes(leading_lines=lines[cut:])
    body.insert(place, node)
    return module.with_changes(body=body)


# --- markers ---


def evolved(module: cst.Module) -> tuple[int, int]:
    """The first and, exclusively, the last statement of a module that may be changed: those between the
    markers of an evolve block, or all.
    """
    start, end = 0, len(module.body)
    for number, node in enumerate(module.body):
        if any(_says(line, BLOCK_START) for line in node.leading_lines):
            start = number
        if number and any(_says(line, BLOCK_END) for line in node.leading_lines):
            return start, number
    return start, end


def evolved_part(module: cst.Module) -> Sequence[cst.BaseStatement | cst.SimpleStatementLine]:
    """The statements of a module that may be changed."""
    start, end = evolved(module)
    return module.body[start:end]


def _says(line: cst.EmptyLine, marker: str) -> bool:
    return line.comment is not None and marker in line.comment.value
