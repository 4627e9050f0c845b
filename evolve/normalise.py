"""The normalised form of a program: what is left of a source when all that cannot matter is taken away.

Comments, formatting, docstrings, annotations, the names of variables and private constants, and arithmetic of
literals are taken away. Equal forms mean equal behaviour, so whatever might matter stays: names of attributes
and methods, names that the interface of the problem mentions, and all names of a program that could see them.
The reverse does not hold: equal behaviour may have many forms.
"""

import ast
import builtins
import hashlib
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from itertools import takewhile
from typing import Any, cast

INTROSPECTION = frozenset({"eval", "exec", "compile", "locals", "globals", "vars", "dir", "getattr"})
TYPES = frozenset({"bool", "dict", "float", "int", "list", "object", "set", "str", "tuple"})
# Tables instead of `eval`, with the arithmetic of the program itself: a folded literal has the same bits.
BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
HASHED = 256  # programs that are remembered: parents are compared with again and again
LARGEST_EXPONENT = 64
LARGEST_INTEGER = 2**63
UNSEEN = frozenset({"ctx", "kind", "simple", "type_comment"})  # fields that say nothing new

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@cache
def names_in(interface: str) -> frozenset[str]:
    """All identifiers that an interface text mentions: a judge may know a program's parts by these names."""
    return frozenset(re.findall(r"[^\W\d]\w*", interface))


@lru_cache(HASHED)
def normal_hash(source: str, known: frozenset[str] = frozenset()) -> str:
    """128 bits, in hex, of the normalised form of a program; "" if it does not parse.

    `known` names may be looked up from outside, with those of the parameters: they stay as they are.
    """
    try:
        module = ast.parse(source)
        module = _Bare(module).visit(module)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    names = _Names(known)
    names.visit(module)
    names.settle()
    module.body = _Folded(names).module(module)
    form = repr(_Form(names).of(module)).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(form, digest_size=16).hexdigest()


class _Bare(ast.NodeTransformer):
    """Takes away docstrings and other statements without effect, and annotations that cannot fail."""

    def __init__(self, module: ast.Module) -> None:
        self.in_function = False
        names = [node for node in ast.walk(module) if isinstance(node, ast.Name | ast.arg)]
        bound = {node.arg if isinstance(node, ast.arg) else node.id for node in names if not _is_read(node)}
        self.types = TYPES - bound
        imports = takewhile(lambda top: isinstance(top, ast.Expr | ast.Import | ast.ImportFrom), module.body)
        self.has_torch = "torch" not in bound and any(
            isinstance(top, ast.Import) and any(a.name == "torch" and a.asname is None for a in top.names)
            for top in imports
        )

    def is_harmless(self, annotation: ast.expr) -> bool:
        """Whether evaluating an annotation can neither fail nor do anything."""
        match annotation:
            case ast.Constant(value=None | str()):
                return True
            case ast.Name(id=name):
                return name in self.types
            case ast.Attribute(value=ast.Name(id="torch"), attr="Tensor"):
                return self.has_torch
            case ast.Subscript(value=ast.Name(id="list" | "dict" | "set" | "tuple" as name), slice=inner):
                parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return name in self.types and all(map(self.is_harmless, parts))
        return False

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse"):
            if isinstance(statements := getattr(node, name, None), list) and statements:
                kept = [statement for statement in statements if not isinstance(statement, ast.Pass)]
                setattr(node, name, kept or [ast.Pass()])
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.returns is not None and self.is_harmless(node.returns):
            node.returns = None
        outside, self.in_function = self.in_function, True
        self.generic_visit(node)
        self.in_function = outside
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        outside, self.in_function = self.in_function, False
        self.generic_visit(node)
        self.in_function = outside
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        if node.annotation is not None and self.is_harmless(node.annotation):
            node.annotation = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # Inside functions annotations are not evaluated. One without a value makes the name local: it stays.
        if self.in_function:
            node.annotation = ast.Constant(None)
        if node.value is None or not self.is_harmless(node.annotation):
            return self.generic_visit(node)
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value))


def _is_read(node: ast.Name | ast.arg) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


class _Scope:
    """Where names are bound: the module, a class, or a function, lambda or comprehension."""

    def __init__(self, node: ast.AST, parent: "_Scope | None") -> None:
        self.is_class = isinstance(node, ast.ClassDef)
        self.is_comprehension = isinstance(node, Comprehension)
        self.parent = parent
        self.bindings: dict[str, int] = {}  # how often each name is bound
        self.fixed: set[str] = set()  # names that stay as they are

    def home(self, name: str) -> "_Scope | None":
        """The scope that a name used here belongs to; None for a builtin or what the problem provides."""
        if name in self.bindings:
            return self
        scope = self.parent
        while scope is not None:
            if name in scope.bindings and not scope.is_class:
                return scope
            scope = scope.parent
        return None


class _Names(ast.NodeVisitor):
    """Finds out which variable each name means, by the scoping rules of the language."""

    def __init__(self, known: frozenset[str]) -> None:
        self.known = known
        self.scope = self.module = _Scope(ast.Module([], []), None)
        self.scopes = [self.module]
        self.place: dict[ast.AST, _Scope] = {}  # of everything that has a name: where the name is looked up
        self.parameters: list[tuple[_Scope, frozenset[str], set[str]]] = []  # scope, fixed ones, all
        self.passed: set[str] = set()  # names of keyword arguments
        self.used: list[ast.Name] = []
        self.seen = False  # whether the program could see its own names, or is beyond these rules
        self.numbers: dict[tuple[_Scope, str], str] = {}

    def settle(self) -> None:
        """To be called when all is visited: fixes what has to keep its name."""
        in_classes = {name for scope in self.scopes if scope.is_class for name in scope.bindings}
        for scope in self.scopes:
            scope.fixed |= in_classes  # a class body looks into itself first, then outside
        # A name of the module may fall back to a builtin where it is not bound yet; what the program does not
        # use itself is there for somebody else.
        used = {name.id for name in self.used if self.place[name].home(name.id) is self.module}
        self.module.fixed |= self.known | set(dir(builtins)) | (self.module.bindings.keys() - used)
        for scope, fixed, parameters in self.parameters:
            scope.fixed |= parameters & (fixed | self.passed)

    def called(self, name: str, node: ast.AST) -> str:
        """What a name is called in the normalised form; no source can hold a name that begins like these."""
        if self.seen:
            return name
        home = self.place[node].home(name)
        if home is None or home.is_class or name in home.fixed:
            return name
        return self.numbers.setdefault((home, name), f"§{len(self.numbers)}")

    def bind(self, name: str, node: ast.AST) -> None:
        self.place[node] = self.scope
        self.scope.bindings[name] = self.scope.bindings.get(name, 0) + 1
        self.seen |= name.startswith("__")

    def visit_all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    @contextmanager
    def inside(self, node: ast.AST) -> Iterator[None]:
        """What is visited meanwhile belongs to the scope of `node`."""
        outside = self.scope
        self.scope = _Scope(node, outside)
        self.scopes.append(self.scope)
        yield
        self.scope = outside

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.place[node] = self.scope
            self.used.append(node)
            self.seen |= node.id in INTROSPECTION or node.id.startswith("__")
        else:
            self.bind(node.id, node)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        inner = self.scope
        while self.scope.is_comprehension and self.scope.parent is not None:
            self.scope = self.scope.parent
        self.visit(node.target)
        self.scope = inner

    def function(self, node: Function) -> None:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
        outer: list[ast.expr | None] = [*arguments.defaults, *arguments.kw_defaults]
        outer += [argument.annotation for argument in every]
        name = ""
        if not isinstance(node, ast.Lambda):
            name = node.name
            self.bind(name, node)
            outer += [*node.decorator_list, node.returns]
            self.seen |= bool(getattr(node, "type_params", ()))
        self.visit_all(outer)
        with self.inside(node):
            for argument in every:
                self.bind(argument.arg, argument)
            fixed = self.known if name in self.known else frozenset[str]()
            self.parameters.append((self.scope, fixed, {argument.arg for argument in every}))
            self.visit_all(node.body if isinstance(node.body, list) else [node.body])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.bind(node.name, node)
        self.seen |= bool(getattr(node, "type_params", ()))
        self.visit_all([*node.decorator_list, *node.bases, *node.keywords])
        with self.inside(node):
            self.visit_all(node.body)

    def comprehension(self, node: Comprehension) -> None:
        first, *others = node.generators
        self.visit(first.iter)  # is evaluated outside
        with self.inside(node):
            self.visit_all([first.target, *first.ifs, *others])
            self.visit_all([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])

    # ast gives these names
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = comprehension  # noqa: N815

    def visit_alias(self, node: ast.alias) -> None:
        name = node.asname or node.name.partition(".")[0]
        self.bind(name, node)
        if "." in node.name and node.asname is None:
            self.scope.fixed.add(name)
        self.seen |= node.name == "*"

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg is None:
            self.seen = True  # of what ** passes, the names are not known
        else:
            self.passed.add(node.arg)
        self.visit(node.value)

    def visit_Compare(self, node: ast.Compare) -> None:
        for compared, value in zip(node.ops, node.comparators, strict=True):
            if isinstance(compared, ast.Is | ast.IsNot) and not isinstance(value, ast.Constant):
                self.seen = True  # an inlined constant might be another object
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.seen |= node.name is not None  # messages of exceptions hold names
        self.generic_visit(node)

    def beyond(self, node: ast.AST) -> None:
        self.seen = True
        self.generic_visit(node)

    visit_Global = visit_Nonlocal = visit_Match = visit_TypeAlias = beyond  # noqa: N815
    visit_AsyncFunctionDef = beyond  # noqa: N815


class _Folded(ast.NodeTransformer):
    """Computes arithmetic of literals, and puts private constants of the module where they are used."""

    def __init__(self, names: _Names) -> None:
        self.names = names
        self.constants: dict[str, ast.Constant] = {}

    def module(self, module: ast.Module) -> list[ast.stmt]:
        """The statements of a module, without those constants that have gone to where they are used."""
        position = {node: index for index, top in enumerate(module.body) for node in ast.walk(top)}
        first_use: dict[str, int] = {}
        for name in self.names.used:
            if name in position and self.names.place[name].home(name.id) is self.names.module:
                first_use[name.id] = min(position[name], first_use.get(name.id, position[name]))
        kept = []
        for index, statement in enumerate(module.body):
            folded = self.visit(statement)
            match folded:
                case ast.Assign(targets=[ast.Name(id=bound)], value=ast.Constant() as value) if (
                    self.is_private(bound) and first_use.get(bound, index + 1) > index
                ):
                    self.constants[bound] = value
                case _:
                    kept.append(folded)
        return kept or [ast.Pass()]

    def is_private(self, name: str) -> bool:
        module = self.names.module
        return not self.names.seen and module.bindings[name] == 1 and name not in module.fixed

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if isinstance(node.ctx, ast.Load) and node.id in self.constants:
            home = self.names.place[node].home(node.id)
            return self.constants[node.id] if home is self.names.module else node
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        number, compute = _number(node.operand), UNARY.get(type(node.op))
        return node if number is None or compute is None else ast.Constant(compute(number))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        left, right, compute = _number(node.left), _number(node.right), BINARY.get(type(node.op))
        if left is None or right is None or compute is None:
            return node
        if isinstance(node.op, ast.Pow) and abs(right) > LARGEST_EXPONENT:
            return node
        try:
            value = compute(left, right)
        except ArithmeticError:  # the program will find out itself, if it gets there
            return node
        computed = isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST_INTEGER)
        return ast.Constant(value) if computed else node


def _number(node: ast.expr) -> int | float | None:
    """The value of a literal number."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return cast(int | float, node.value)
    return None


class _Form:
    """Plain nested tuples for a tree, equal for equal programs on every version of Python."""

    def __init__(self, names: _Names) -> None:
        self.names = names

    def of(self, value: object) -> object:
        """The form of a node, of a list of nodes, or of what a field holds."""
        match value:
            case list():
                return tuple(map(self.of, value))
            case ast.Constant(value=constant):
                return ("Constant", type(constant).__name__, repr(constant))
            case ast.Name(id=name):
                return ("Name", self.names.called(name, value))
            case ast.alias(name=name, asname=asname):
                return (name, self.names.called(asname or name.partition(".")[0], value))
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                return (self.names.called(name, value), *self.fields(value))
            case ast.AST():
                return self.fields(value)
        return value

    def fields(self, node: ast.AST) -> tuple[object, ...]:
        # Empty fields are left out: later versions of Python add some.
        named = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.arg)
        unseen = UNSEEN | {"name", "arg"} if named else UNSEEN
        held = ((name, getattr(node, name, None)) for name in node._fields if name not in unseen)
        full = [(name, self.of(value)) for name, value in held if value is not None and value != []]
        return (type(node).__name__, *full)
