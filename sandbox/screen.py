"""The screen: what a candidate's source says is checked before anything of it runs.

An allow-list over the syntax tree: everything that is not known to be harmless is refused, in words that
tell a proposer what to write instead. The screen is the first wall, not the only one: what passes it runs
isolated.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

LONGEST_TEXT = 2_000
LARGEST_INTEGER = 2**63
LARGEST_EXPONENT = 64
THROWAWAY = "_"

REFUSED_STATEMENTS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Global: ("global", "keep state in attributes of self"),
    ast.Nonlocal: ("nonlocal", "return the value, or keep state in attributes of self"),
    ast.AsyncFunctionDef: ("async def", "write a plain function"),
    ast.AsyncFor: ("async for", "write a plain loop"),
    ast.AsyncWith: ("async with", "call the functions directly"),
    ast.Await: ("await", "call the function directly"),
    ast.With: ("with", "call the functions directly; gradients are off already"),
    ast.Yield: ("yield", "build and return a list or a tensor"),
    ast.YieldFrom: ("yield from", "build and return a list or a tensor"),
    ast.Match: ("match", "write if and elif"),
    ast.TryStar: ("except*", "write except with the name of the exception"),
}


class ScreenRules(Protocol):
    """The language of a problem's candidates: what is not in these lists is refused."""

    @property
    def modules(
        self,
    ) -> Mapping[str, frozenset[str]]: ...  # importable module -> names that may be used of it
    @property
    def attributes(self) -> frozenset[str]: ...  # attributes and methods of any other object
    @property
    def builtins(self) -> frozenset[str]: ...
    @property
    def provided(self) -> frozenset[str]: ...  # global names that the problem gives to a candidate
    @property
    def forbidden_globals(self) -> Mapping[str, str]: ...  # name -> why it may not be used
    @property
    def max_characters(self) -> int: ...
    @property
    def max_nodes(self) -> int: ...
    @property
    def max_depth(self) -> int: ...


@dataclass(frozen=True)
class Refusal:
    """One thing that may not be written, where it stands, and what to use instead."""

    line: int
    construct: str
    advice: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.construct} is not allowed; {self.advice}"


def screen(source: str, rules: ScreenRules) -> list[Refusal]:
    """What is refused in `source`, by line; empty for a clean program. Nothing is executed."""
    if len(source) > rules.max_characters:
        size = f"a program of {len(source):,} characters"
        return [Refusal(1, size, f"stay within {rules.max_characters:,}")]
    try:
        tree = ast.parse(source)
        depth = _depth(tree, rules.max_depth)
    except SyntaxError as error:
        return [Refusal(error.lineno or 1, "syntax", f"Python says: {error.msg}")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Refusal(1, "a program that Python cannot parse", f"Python says: {error}")]
    nodes = sum(1 for _ in ast.walk(tree))
    if nodes > rules.max_nodes or depth > rules.max_depth:
        size = f"a program of {nodes:,} syntax nodes nested {depth} deep"
        return [Refusal(1, size, f"stay within {rules.max_nodes:,} nodes and {rules.max_depth} levels")]
    found = {*_Screen(tree, rules).refusals()}
    return sorted(found, key=lambda refusal: (refusal.line, refusal.construct))


def _depth(tree: ast.AST, limit: int) -> int:
    """Levels of nesting, counted no further than one beyond `limit`."""
    level, depth = [tree], 0
    while level and depth <= limit:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


class _Screen:
    """Looks at each node once. Names are not resolved by scope: a name that is bound anywhere counts as
    bound.
    """

    def __init__(self, tree: ast.Module, rules: ScreenRules) -> None:
        self.tree = tree
        self.rules = rules
        self.aliases: dict[str, str] = {}  # name -> the module that it stands for
        self.bound: set[str] = set()
        self.members: set[str] = set()  # attributes and methods that the program itself defines
        for node in ast.walk(tree):
            self._collect(node)

    def _collect(self, node: ast.AST) -> None:
        match node:
            case ast.Import():
                for alias in node.names:
                    self.aliases[alias.asname or alias.name.partition(".")[0]] = alias.name
            case ast.ImportFrom():
                self.bound.update(alias.asname or alias.name for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                self.bound.add(node.id)
            case ast.arg():
                self.bound.add(node.arg)
            case ast.FunctionDef():
                self.bound.add(node.name)
                self.members.add(node.name)
            case ast.ClassDef():
                self.bound.add(node.name)
                self.members.update(
                    target.id
                    for statement in node.body
                    if isinstance(statement, ast.Assign)
                    for target in statement.targets
                    if isinstance(target, ast.Name)
                )
            case ast.ExceptHandler(name=str(name)):
                self.bound.add(name)
            case ast.Attribute(ctx=ast.Store()) if _is_self(node.value):
                self.members.add(node.attr)

    def refusals(self) -> Iterator[Refusal]:
        yield from self._body(self.tree.body, "a statement at module level")
        for node in ast.walk(self.tree):
            for construct, advice in self._refused(node):
                yield Refusal(getattr(node, "lineno", 1), construct, advice)

    def _refused(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        if type(node) in REFUSED_STATEMENTS:
            yield REFUSED_STATEMENTS[type(node)]
        match node:
            case ast.Import():
                yield from self._import([alias.name for alias in node.names])
            case ast.ImportFrom():
                yield from self._import_from(node)
            case ast.Name():
                yield from self._name(node)
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.arg():
                yield from _underscore(node.arg, "the argument")
            case ast.keyword(arg=str(name)):
                yield from _underscore(name, "the keyword")
            case ast.FunctionDef():
                yield from self._function(node)
            case ast.ClassDef():
                yield from self._class(node)
            case ast.ExceptHandler():
                yield from self._handler(node)
            case ast.Constant():
                yield from self._constant(node)
            case ast.BinOp():
                yield from _power(node)
            case ast.arguments():
                yield from self._defaults(node)

    def _import(self, names: list[str]) -> Iterator[tuple[str, str]]:
        for name in names:
            if name not in self.rules.modules:
                yield f"import {name}", self._importable()

    def _import_from(self, node: ast.ImportFrom) -> Iterator[tuple[str, str]]:
        module = node.module or "."
        if node.level or module not in self.rules.modules:
            yield f"from {module} import", self._importable()
            return
        for alias in node.names:
            if alias.name not in self.rules.modules[module]:
                yield f"{module}.{alias.name}", f"it is not among the names that may be used of {module}"
            yield from _underscore(alias.asname or "", "the name")

    def _importable(self) -> str:
        return f"only {' and '.join(sorted(self.rules.modules))} can be imported"

    def _name(self, node: ast.Name) -> Iterator[tuple[str, str]]:
        name = node.id
        if name != THROWAWAY:
            yield from _underscore(name, "the name")
        if name in self.rules.forbidden_globals:
            yield f"the name {name}", self.rules.forbidden_globals[name]
        elif isinstance(node.ctx, ast.Load):
            known = self.bound | self.aliases.keys() | self.rules.builtins | self.rules.provided
            if name not in known:
                yield f"the name {name}", "it is neither defined here nor among the allowed builtins"
        elif name in self.aliases or name in self.rules.provided:
            yield f"assigning to {name}", "choose another name for the variable"

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[str, str]]:
        name = node.attr
        if name.startswith("_"):
            yield f"the attribute {name}", "attributes that begin with an underscore are internal"
            return
        module = self.aliases.get(node.value.id) if isinstance(node.value, ast.Name) else None
        if not isinstance(node.ctx, ast.Load):
            if not _is_self(node.value):
                yield f"setting the attribute {name}", "only attributes of self may be set"
        elif module is not None:
            if name not in self.rules.modules.get(module, frozenset()):
                yield f"{module}.{name}", f"it is not among the names that may be used of {module}"
        elif name not in self.rules.attributes and name not in self.members:
            yield f"the attribute {name}", "it is not among the methods and attributes that may be used"

    def _function(self, node: ast.FunctionDef) -> Iterator[tuple[str, str]]:
        if node.name != "__init__":
            yield from _underscore(node.name, "the function")
        yield from self._definition(node.name)
        for decorator in node.decorator_list:
            if not (isinstance(decorator, ast.Name) and decorator.id == "staticmethod"):
                yield "a decorator", "only @staticmethod may be used"

    def _class(self, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
        yield from _underscore(node.name, "the class")
        yield from self._definition(node.name)
        if node.decorator_list or node.keywords:
            yield f"class {node.name} with a decorator or a metaclass", "write a plain class"
        if not all(isinstance(base, ast.Name) and base.id in self.bound for base in node.bases):
            yield f"class {node.name} with a foreign base", "inherit from classes of this program only"
        for refusal in self._body(node.body, "a statement in a class body"):
            yield refusal.construct, refusal.advice

    def _definition(self, name: str) -> Iterator[tuple[str, str]]:
        if name in self.rules.forbidden_globals:
            yield f"the name {name}", self.rules.forbidden_globals[name]
        elif name in self.aliases or name in self.rules.provided or name in self.rules.builtins:
            yield f"redefining {name}", "choose another name"

    def _body(self, body: list[ast.stmt], where: str) -> Iterator[Refusal]:
        """Outside of functions only definitions and unchangeable constants: nothing that could hold state."""
        for statement in body:
            match statement:
                case ast.FunctionDef() | ast.ClassDef() | ast.Import() | ast.ImportFrom() | ast.Pass():
                    allowed = True
                case ast.Expr(value=ast.Constant(value=str())):
                    allowed = True
                case ast.Assign(targets=[ast.Name()], value=value):
                    allowed = self._is_constant(value)
                case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
                    allowed = self._is_constant(value)
                case _:
                    allowed = False
            if not allowed:
                advice = (
                    "put code into methods; only numbers, strings and tuples of them may be assigned here"
                )
                yield Refusal(statement.lineno, where, advice)

    def _is_constant(self, node: ast.expr) -> bool:
        """Whether an expression is made of numbers, strings, tuples, other constants, and `math`."""
        match node:
            case ast.Constant() | ast.Name():
                return not (isinstance(node, ast.Name) and node.id in self.aliases)
            case ast.Tuple(elts=elements):
                return all(map(self._is_constant, elements))
            case ast.UnaryOp(operand=operand):
                return self._is_constant(operand)
            case ast.BinOp(left=left, right=right):
                return self._is_constant(left) and self._is_constant(right)
            case ast.Attribute(value=ast.Name(id=name)):
                return self.aliases.get(name) == "math"
            case ast.Call(func=function, args=arguments, keywords=[]):
                plain = isinstance(function, ast.Name) and function.id in {
                    "float",
                    "int",
                    "abs",
                    "min",
                    "max",
                }
                named = isinstance(function, ast.Attribute) and self._is_constant(function)
                return (plain or named) and all(map(self._is_constant, arguments))
            case _:
                return False

    def _handler(self, node: ast.ExceptHandler) -> Iterator[tuple[str, str]]:
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        for kind in kinds:
            if not (isinstance(kind, ast.Name) and kind.id in self.rules.builtins):
                yield "this except", "name the exceptions, such as ValueError or IndexError"
        yield from _underscore(node.name or "", "the name")

    def _constant(self, node: ast.Constant) -> Iterator[tuple[str, str]]:
        if isinstance(node.value, str | bytes) and len(node.value) > LONGEST_TEXT:
            yield f"a text of {len(node.value):,} characters", f"stay within {LONGEST_TEXT:,}"
        if isinstance(node.value, int) and abs(node.value) >= LARGEST_INTEGER:
            yield "an integer of 2**63 or more", "use a smaller number or a float"

    def _defaults(self, node: ast.arguments) -> Iterator[tuple[str, str]]:
        for default in (*node.defaults, *node.kw_defaults):
            if default is not None and not self._is_constant(default):
                yield "a default that could be changed", "use a number, a string, a tuple or None"


def _underscore(name: str, what: str) -> Iterator[tuple[str, str]]:
    if name.startswith("_") and name != THROWAWAY:
        yield f"{what} {name}", "names that begin with an underscore are internal; choose another"


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _power(node: ast.BinOp) -> Iterator[tuple[str, str]]:
    """Constants that would be computed before any limit holds."""
    if isinstance(node.op, ast.Pow | ast.LShift) and isinstance(node.right, ast.Constant):
        exponent = node.right.value
        if isinstance(exponent, int | float) and abs(exponent) > LARGEST_EXPONENT:
            yield f"the exponent {exponent}", f"stay within {LARGEST_EXPONENT}"
    if (
        isinstance(node.op, ast.Pow)
        and isinstance(node.left, ast.BinOp)
        and isinstance(node.left.op, ast.Pow)
    ):
        yield "a power of a power", "multiply the exponents"
