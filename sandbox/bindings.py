"""What the names of a candidate stand for: modules, classes, constants, or anything else."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

CONSTANT_CALLS = frozenset({"float", "int", "bool", "min", "max", "abs", "round", "len", "range", "tuple"})
MAX_BITS = 63
MAX_WORKING_BITS = 1 << 12


class Bindings:
    """Every name that a candidate binds anywhere, by what it is bound to.

    Scopes are not told apart: a name is a module everywhere or nowhere, and the screen refuses to bind it
    again.
    """

    def __init__(self, tree: ast.Module, modules: Mapping[str, frozenset[str]]) -> None:
        self._known = modules
        self.modules: dict[str, str] = {}  # name -> dotted module
        self.conflicts: set[str] = set()  # names of more than one module
        self.classes: set[str] = set()
        self.methods: set[str] = set()
        self.class_names: set[str] = set()  # constants and static methods of classes
        self.attributes: set[str] = set()  # set on self, or constants of classes
        self.constants: set[str] = set()  # names bound at the level of the module by a plain assignment
        self.names: set[str] = set()  # bound in any way
        for node in ast.walk(tree):
            self._collect(node)
        for statement in tree.body:
            for target in _targets(statement):
                self.constants.add(target)

    def module_of(self, node: ast.expr) -> str | None:
        """The dotted module that an expression such as `torch.nn.functional` names, or None."""
        if isinstance(node, ast.Name):
            return self.modules.get(node.id)
        if isinstance(node, ast.Attribute) and (module := self.module_of(node.value)):
            inner = f"{module}.{node.attr}"
            if any(known == inner or known.startswith(f"{inner}.") for known in self._known):
                return inner
        return None

    def _collect(self, node: ast.AST) -> None:
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    root = alias.name.partition(".")[0]
                    self._collect_module(alias.asname or root, alias.name if alias.asname else root)
            case ast.ImportFrom(module=str(module), names=aliases):
                for alias in aliases:
                    name = alias.asname or alias.name
                    if f"{module}.{alias.name}" in self._known:
                        self._collect_module(name, f"{module}.{alias.name}")
                    else:
                        self.names.add(name)
            case ast.ClassDef(name=name):
                self.names.add(name)
                self.classes.add(name)
                self._collect_class(node)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                self.names.add(name)
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                self.names.add(name)
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                self.names.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                self.attributes.add(name)

    def _collect_module(self, name: str, module: str) -> None:
        if self.modules.setdefault(name, module) != module:
            self.conflicts.add(name)

    def _collect_class(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                (self.class_names if statement.decorator_list else self.methods).add(statement.name)
                if statement.decorator_list:
                    self.attributes.add(statement.name)
            for name in _targets(statement):
                self.class_names.add(name)
                self.attributes.add(name)


def _targets(statement: ast.stmt) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    if isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id


def is_constant(node: ast.expr, bindings: Bindings) -> bool:
    """Whether an expression's value can never change: numbers, strings, tuples of them."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return name in bindings.constants
        case ast.UnaryOp(operand=operand):
            return is_constant(operand, bindings)
        case ast.BinOp(left=left, right=right):
            return is_constant(left, bindings) and is_constant(right, bindings)
        case ast.Tuple(elts=elements):
            return all(is_constant(element, bindings) for element in elements)
        case ast.Attribute():  # such as math.pi or torch.float32
            return bindings.module_of(node.value) is not None
        case ast.Call(func=function, args=arguments, keywords=[]):
            plain = isinstance(function, ast.Name) and function.id in CONSTANT_CALLS
            mathematical = (
                isinstance(function, ast.Attribute) and bindings.module_of(function.value) == "math"
            )
            return (plain or mathematical) and all(is_constant(argument, bindings) for argument in arguments)
    return False


def is_huge(node: ast.expr) -> bool:
    """Whether an expression of integer constants has more than 63 bits, without computing a huge one."""
    try:
        value = _integer(node)
    except OverflowError:
        return True
    return value is not None and value.bit_length() > MAX_BITS


def _integer(node: ast.expr) -> int | None:
    """The value of an integer constant expression, or None. Raises OverflowError for a huge one."""
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value_ = _integer(operand)
            return None if value_ is None else -value_
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _integer(left), _integer(right)
            if first is None or second is None or second < 0:
                return None
            if isinstance(op, ast.Pow | ast.LShift):
                if second * max(1, first.bit_length() if isinstance(op, ast.Pow) else 1) > MAX_WORKING_BITS:
                    raise OverflowError
                return first**second if isinstance(op, ast.Pow) else first << second
            return first * second if isinstance(op, ast.Mult) else None
    return None
