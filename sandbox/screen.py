"""The screen: what a candidate's source says is checked before anything of it runs.

An allow-list over the syntax tree: what a problem does not list is refused, in words that tell a proposer
what to write instead. It is no wall (that is `isolation.py`): it keeps candidates readable, free of hidden
state and cheap to reject.
"""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from sandbox.bindings import Bindings, is_constant, is_huge
from sandbox.frame import is_kept
from sandbox.rules import ScreenRules

__all__ = ["Refusal", "ScreenRules", "screen"]

LONGEST_TEXT = 2_000
SCREENED = 128  # programs that are remembered: a proposer screens first, then the cascade
BUILTINS = frozenset(dir(builtins))
# A candidate that catches these could swallow what a judge, a cache or a limit raises.
NEVER_CAUGHT = frozenset({"BaseException", "Exception", "MemoryError", "RecursionError"})

REFUSED: dict[type[ast.AST], tuple[str, str]] = {
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


@dataclass(frozen=True, order=True)
class Refusal:
    """One thing that may not be written, where it stands, and what to use instead."""

    line: int
    construct: str
    advice: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.construct} is not allowed; {self.advice}"


def screen(source: str, rules: ScreenRules) -> list[Refusal]:
    """What is refused in `source`, by line; empty for a clean program. Nothing is executed."""
    return list(_refusals(source, rules))


@lru_cache(SCREENED)
def _refusals(source: str, rules: ScreenRules) -> list[Refusal]:
    if len(source) > rules.max_characters:
        return [
            Refusal(1, f"a program of {len(source):,} characters", f"stay within {rules.max_characters:,}")
        ]
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [Refusal(error.lineno or 1, "syntax", f"Python says: {error.msg}")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Refusal(1, "a program that Python cannot parse", f"Python says: {error}")]
    nodes, depth = _extent(tree)
    if nodes > rules.max_nodes or depth > rules.max_depth:
        size = f"a program of {nodes:,} syntax nodes nested {depth} deep"
        return [Refusal(1, size, f"stay within {rules.max_nodes:,} nodes and {rules.max_depth} levels")]
    if rules.template is not None:
        if is_kept(source, rules.template):
            return []
        advice = "leave what is outside of EVOLVE-BLOCK-START and EVOLVE-BLOCK-END as it is"
        return [Refusal(1, "a change outside the markers", advice)]
    screener = _Screener(rules, Bindings(tree, rules.modules))
    screener.body(tree.body, "a statement at module level")
    return sorted(set(screener.refusals))


def _extent(tree: ast.AST) -> tuple[int, int]:
    """Number of nodes and levels of a tree, without recursion."""
    nodes, depth, level = 0, 0, [tree]
    while level:
        nodes += len(level)
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return nodes, depth


class _Screener(ast.NodeVisitor):
    """Visits every node once; what has no method here and is not in REFUSED is allowed."""

    def __init__(self, rules: ScreenRules, bindings: Bindings) -> None:
        self.rules = rules
        self.bindings = bindings
        self.refusals: list[Refusal] = []

    def refuse(self, node: ast.AST, construct: str, advice: str) -> None:
        self.refusals.append(Refusal(getattr(node, "lineno", 1), construct, advice))

    def generic_visit(self, node: ast.AST) -> None:
        if reason := REFUSED.get(type(node)):
            self.refuse(node, *reason)
        super().generic_visit(node)

    # Definitions

    def body(self, statements: list[ast.stmt], where: str) -> None:
        """Outside functions only definitions and constants: all else is state, or runs before any limit."""
        for statement in statements:
            match statement:
                case ast.FunctionDef():
                    self.function(statement, method="class" in where)
                    continue
                case ast.ClassDef() | ast.Import() | ast.ImportFrom() | ast.Pass() | ast.AsyncFunctionDef():
                    constant = True
                case ast.Expr(value=ast.Constant(value=str())) | ast.AnnAssign(target=ast.Name(), value=None):
                    constant = True
                case ast.Assign(targets=[ast.Name()], value=value):
                    constant = is_constant(value, self.bindings)
                case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
                    constant = is_constant(value, self.bindings)
                case _:
                    constant = False
            if not constant:
                advice = (
                    "put code into methods; only numbers, strings and tuples of them may be assigned here"
                )
                self.refuse(statement, where, advice)
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.definition(node, "the class", node.name)
        if node.decorator_list or node.keywords:
            self.refuse(node, f"class {node.name} with a decorator or a metaclass", "write a plain class")
        if not all(isinstance(base, ast.Name) and base.id in self.bindings.classes for base in node.bases):
            advice = "inherit from classes of this program only"
            self.refuse(node, f"class {node.name} with a foreign base", advice)
        self.type_parameters(node)
        self.body(node.body, "a statement in a class body")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function(node, method=False)

    def function(self, node: ast.FunctionDef, method: bool) -> None:
        if not method:
            self.definition(node, "the function", node.name)
        elif node.name != "__init__":
            self.underscore(node, "the function", node.name)
        for decorator in node.decorator_list:
            if not (method and isinstance(decorator, ast.Name) and decorator.id == "staticmethod"):
                self.refuse(decorator, "a decorator", "only @staticmethod may be used, on a method")
        self.type_parameters(node)
        self.arguments(node.args, bound=method and not node.decorator_list)
        if node.returns:
            self.visit(node.returns)
        for statement in node.body:
            self.visit(statement)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.arguments(node.args, bound=False)
        self.visit(node.body)

    def arguments(self, arguments: ast.arguments, bound: bool) -> None:
        """`bound` arguments belong to a method, whose first may be called self."""
        positional = [*arguments.posonlyargs, *arguments.args]
        for argument in (*positional, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if argument is None:
                continue
            if not (bound and argument is positional[0] and argument.arg == "self"):
                self.binding(argument, "the argument", argument.arg)
            if argument.annotation:
                self.visit(argument.annotation)
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is None:
                continue
            if not is_constant(default, self.bindings):
                advice = "use a number, a string, a tuple or None"
                self.refuse(default, "a default that could be changed", advice)
            self.visit(default)

    def type_parameters(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        if getattr(node, "type_params", None):  # Python 3.12 and later
            self.refuse(node, "a type parameter", "leave it out")

    # Imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.partition(".")[0]
            if alias.name not in self.rules.modules:
                self.refuse(node, f"import {alias.name}", self.importable())
            elif alias.asname is None and root not in self.rules.modules:
                self.refuse(node, f"import {alias.name}", f"write `import {alias.name} as name`")
            self.module_alias(node, alias.asname or root)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "__future__" and node.level == 0:
            return
        module = "." * node.level + (node.module or "")
        for alias in node.names:
            name = alias.asname or alias.name
            if f"{module}.{alias.name}" in self.rules.modules:
                self.module_alias(node, name)
            elif module not in self.rules.modules:
                self.refuse(node, f"from {module} import", self.importable())
            else:
                self.module_name(node, module, alias.name)
                self.binding(node, "the name", name)

    def module_alias(self, node: ast.AST, name: str) -> None:
        self.underscore(node, "the name", name)
        if name in self.bindings.conflicts or self.has_meaning(name):
            self.refuse(node, f"assigning to {name}", "choose another name for the module")

    def importable(self) -> str:
        return f"only {' and '.join(sorted(self.rules.modules))} can be imported"

    def module_name(self, node: ast.AST, module: str, name: str) -> None:
        if name not in (allowed := self.rules.modules.get(module, frozenset())):
            advice = f"it is not among the names that may be used of {module}{_closest(name, allowed)}"
            self.refuse(node, f"{module}.{name}", advice)

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        name = node.id
        if not isinstance(node.ctx, ast.Load):
            self.binding(node, "the name", name)
        elif name in self.bindings.modules:
            self.refuse(node, f"{name} as a value", f"use the module only as {name}.name")
        elif self.underscore(node, "the name", name):
            own = name in self.bindings.names and name not in BUILTINS
            if not own and name not in self.rules.builtins and name not in self.rules.provided:
                every = self.rules.builtins | self.rules.provided | (self.bindings.names - BUILTINS)
                advice = f"define it first, it is not among the allowed builtins{_closest(name, every)}"
                self.refuse(node, f"the name {name}", advice)

    def definition(self, node: ast.AST, kind: str, name: str) -> None:
        """A function or class: what it is called may hide nothing, not even an allowed builtin."""
        if name in self.bindings.modules or name in self.rules.builtins or self.has_meaning(name):
            self.refuse(node, f"redefining {name}", "choose another name")
        self.underscore(node, kind, name)

    def binding(self, node: ast.AST, kind: str, name: str) -> None:
        """A variable: its name may not be one that the rest of the screen relies on."""
        classes = self.bindings.classes
        if name in self.bindings.modules or name in classes or name == "self" or self.has_meaning(name):
            self.refuse(node, f"assigning to {name}", "choose another name")
        self.underscore(node, kind, name)

    def has_meaning(self, name: str) -> bool:
        """Whether a name stands for something that the candidate cannot have, or is given."""
        return name in self.rules.provided or (name in BUILTINS and name not in self.rules.builtins)

    def underscore(self, node: ast.AST, kind: str, name: str) -> bool:
        """Whether a name is not one of the internal ones; `_` alone is for what nobody reads."""
        if name.startswith("_") and name != "_":
            advice = "names that begin with an underscore are internal; choose another"
            self.refuse(node, f"{kind} {name}", advice)
            return False
        return True

    # Attributes

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = node.attr
        module = self.bindings.module_of(node.value)
        base = node.value.id if isinstance(node.value, ast.Name) else ""
        if name.startswith("_"):
            advice = "attributes that begin with an underscore are internal"
            self.refuse(node, f"the attribute {name}", advice)
        elif not isinstance(node.ctx, ast.Load):
            if base != "self":
                self.refuse(node, f"setting the attribute {name}", "only attributes of self may be set")
        elif module is None:
            if not self.own(base, name) and name not in self.rules.attributes:
                advice = "it is not among the methods and attributes that may be used"
                self.refuse(node, f"the attribute {name}", f"{advice}{_closest(name, self.rules.attributes)}")
        elif self.bindings.module_of(node):
            self.refuse(node, f"{module}.{name} as a value", "use the module only as module.name")
        else:
            self.module_name(node, module, name)
        if module is None:
            self.visit(node.value)

    def own(self, base: str, attribute: str) -> bool:
        """Whether an attribute is one that the candidate defines itself.

        On self: what it sets there, and what its classes define. On a class: constants and static methods,
        but no method with self, which would take any object for its own. On anything else: nothing, or a
        candidate could reach whatever a foreign object calls by the same name.
        """
        if base == "self":
            return attribute in self.bindings.attributes or attribute in self.bindings.methods
        return base in self.bindings.classes and attribute in self.bindings.class_names

    # Values and flow

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg:
            self.underscore(node, "the keyword", node.arg)
        self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        size = len(node.value) if isinstance(node.value, str | bytes) else 0
        if size > LONGEST_TEXT:
            self.refuse(node, f"a text of {size:,} characters", f"stay within {LONGEST_TEXT:,}")
        if is_huge(node):
            self.refuse(node, "an integer of 2**63 or more", "use a smaller number or a float")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not is_huge(node):
            self.generic_visit(node)
        elif isinstance(node.op, ast.Pow | ast.LShift) and isinstance(node.right, ast.Constant):
            self.refuse(node, f"the exponent {node.right.value!r}", "stay within 64 bits, or use a float")
        else:
            self.refuse(node, "an integer of 2**63 or more", "use a smaller number or a float")

    def visit_Try(self, node: ast.Try) -> None:
        allowed = self.rules.builtins - NEVER_CAUGHT
        for handler in node.handlers:
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            if not all(isinstance(kind, ast.Name) and kind.id in allowed for kind in kinds):
                self.refuse(handler, "this except", "name the exceptions, such as ValueError or IndexError")
            if handler.name:
                self.binding(handler, "the name", handler.name)
        if node.finalbody:  # a return or continue in it swallows any exception
            self.refuse(node.finalbody[0], "finally", "write the statements after the try statement")
        self.generic_visit(node)


def _closest(name: str, allowed: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, sorted(allowed), n=3, cutoff=0.7)
    return f" (close to it: {', '.join(found)})" if found else ""
