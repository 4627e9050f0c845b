"""The static check of a candidate before anything of it runs.

It allows what a problem lists and refuses the rest, in words that help a proposer to do better. It is no
wall (that is `isolation.py`): it keeps candidates readable, free of hidden state and cheap to reject.
"""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from sandbox.bindings import Bindings, is_constant, is_huge
from sandbox.rules import ScreenRules

__all__ = ["Refusal", "ScreenRules", "screen"]

MAX_STRING = 2_000
BUILTINS = frozenset(dir(builtins))
# What a candidate may catch: mistakes of its own arithmetic, never a limit, nor what a judge or a cache
# raises.
EXCEPTIONS = frozenset({"ValueError", "IndexError", "KeyError", "ZeroDivisionError", "OverflowError"})
DECORATORS = frozenset({"staticmethod"})


@dataclass(frozen=True, order=True)
class Refusal:
    """One construct that a candidate may not have, where it stands, and what to do instead."""

    line: int
    construct: str
    advice: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.construct}: {self.advice}"


def screen(source: str, rules: ScreenRules) -> list[Refusal]:
    """All refusals of `source` in the order of its lines; none for a clean candidate. Nothing is executed."""
    if len(source) > rules.max_characters:
        advice = f"{len(source):,} characters; write at most {rules.max_characters:,}"
        return [Refusal(1, "size", advice)]
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [Refusal(error.lineno or 1, "syntax", f"{error.msg}; write valid Python")]
    except (ValueError, RecursionError, MemoryError) as error:
        return [Refusal(1, "syntax", f"cannot be parsed ({error}); write plain, shallow Python")]
    nodes, depth = _extent(tree)
    if nodes > rules.max_nodes:
        return [Refusal(1, "size", f"{nodes:,} syntax nodes; write at most {rules.max_nodes:,}")]
    if depth > rules.max_depth:
        return [Refusal(1, "nesting", f"{depth} levels deep; nest at most {rules.max_depth}")]
    screener = _Screener(rules, Bindings(tree, rules.modules))
    screener.module(tree)
    return sorted(set(screener.refusals))


def _extent(tree: ast.AST) -> tuple[int, int]:
    """Number of nodes and depth of a tree, without recursion."""
    nodes, depth, level = 0, 0, [tree]
    while level:
        nodes += len(level)
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return nodes, depth


class _Screener(ast.NodeVisitor):
    """Visits every node once; what has no method here and is not refused by name is allowed."""

    def __init__(self, rules: ScreenRules, bindings: Bindings) -> None:
        self.rules = rules
        self.bindings = bindings
        self.refusals: list[Refusal] = []

    def refuse(self, node: ast.AST, construct: str, advice: str) -> None:
        self.refusals.append(Refusal(getattr(node, "lineno", 1), construct, advice))

    # Statements at the level of the module and of classes

    def module(self, tree: ast.Module) -> None:
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.Import | ast.ImportFrom):
                self.visit(statement)
            else:
                self.constant_statement(statement, "the module")

    def constant_statement(self, statement: ast.stmt, where: str) -> None:
        """Allows docstrings, `pass` and constants: all else is state, or runs at import."""
        match statement:
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Assign(targets=[ast.Name()], value=value) if is_constant(value, self.bindings):
                pass
            case ast.AnnAssign(target=ast.Name(), value=value) if value is None or is_constant(
                value, self.bindings
            ):
                pass
            case ast.AsyncFunctionDef():
                pass  # refused by name below
            case _:
                self.refuse(
                    statement,
                    "state outside functions",
                    f"at the level of {where} write only imports, functions, classes and constants (numbers, "
                    "strings, tuples of them); make lists, dictionaries and tensors in __init__, on self",
                )
        self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.binding(node, node.name)
        for base in node.bases:
            if not (isinstance(base, ast.Name) and base.id in self.bindings.classes):
                self.refuse(
                    base, "base class", "inherit only from classes of this file; use composition instead"
                )
        if node.keywords:
            self.refuse(node, "class keyword", "write `class Name:` without metaclass or keywords")
        self.decorators(node, frozenset())
        self.type_parameters(node)
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                self.function(statement, method=True)
            else:
                self.constant_statement(statement, "a class")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.function(node, method=False)

    def function(self, node: ast.FunctionDef, method: bool) -> None:
        if not method:
            self.binding(node, node.name)
        elif node.name != "__init__":
            self.underscore(node, node.name)
        self.type_parameters(node)
        self.decorators(node, DECORATORS if method else frozenset())
        bound = method and not node.decorator_list
        self.arguments(node.args, bound)
        if node.returns:
            self.visit(node.returns)
        for statement in node.body:
            self.visit(statement)

    def decorators(self, node: ast.ClassDef | ast.FunctionDef, allowed: frozenset[str]) -> None:
        for decorator in node.decorator_list:
            if not (isinstance(decorator, ast.Name) and decorator.id in allowed):
                self.refuse(decorator, "decorator", "leave it out; only @staticmethod on a method is allowed")

    def type_parameters(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        if getattr(node, "type_params", None):  # Python 3.12 and later
            self.refuse(node, "type parameters", "leave them out; no type is checked here")

    def arguments(self, arguments: ast.arguments, bound: bool = False) -> None:
        positional = [*arguments.posonlyargs, *arguments.args]
        named = [*positional, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in named:
            if argument is None:
                continue
            if not (bound and positional and argument is positional[0] and argument.arg == "self"):
                self.binding(argument, argument.arg)
            if argument.annotation:
                self.visit(argument.annotation)
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is None:
                continue
            if not is_constant(default, self.bindings):
                self.refuse(
                    default, "mutable default", "give None or a constant, and make the value in the body"
                )
            self.visit(default)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.arguments(node.args)
        self.visit(node.body)

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
            elif alias.name == "*":
                self.refuse(node, "star import", f"name what you use: from {module} import ...")
            else:
                self.underscore(node, alias.name)
                self.module_name(node, module, alias.name)
                self.binding(node, name)

    def module_alias(self, node: ast.AST, name: str) -> None:
        self.underscore(node, name)
        self.shadowing(node, name)
        if name in self.bindings.conflicts:
            self.refuse(
                node, f"{name} rebound", "two modules have this name; import one of them under another"
            )

    def importable(self) -> str:
        return f"import only {', '.join(sorted(self.rules.modules)) or 'nothing'}"

    # Names and attributes

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self.binding(node, node.id)
        elif node.id in self.bindings.modules:
            self.refuse(node, f"{node.id} as a value", f"use a module only as {node.id}.name")
        else:
            self.known(node, node.id)

    def known(self, node: ast.AST, name: str) -> None:
        """Refuses a name that is read and is neither the candidate's own nor given to it."""
        self.underscore(node, name)
        if name in self.rules.builtins or name in self.rules.provided or name in EXCEPTIONS:
            return
        if name in self.rules.forbidden_globals:
            self.refuse(node, name, self.rules.forbidden_globals[name])
        elif name in BUILTINS:
            self.refuse(node, name, f"this builtin is not available{_closest(name, self.rules.builtins)}")
        elif name not in self.bindings.names:
            every = self.bindings.names | self.rules.builtins | self.rules.provided
            self.refuse(node, name, f"this name is defined nowhere{_closest(name, every)}")

    def binding(self, node: ast.AST, name: str) -> None:
        """Refuses to bind a name that the rest of the check relies on."""
        self.underscore(node, name)
        if name in self.bindings.modules:
            self.refuse(node, f"{name} rebound", "this is the name of an imported module; choose another")
        elif name in self.bindings.classes and not isinstance(node, ast.ClassDef):
            self.refuse(node, f"{name} rebound", "this is the name of a class; choose another")
        elif name == "self":
            self.refuse(
                node, "self rebound", "`self` is only for the first parameter of a method; choose another"
            )
        else:
            self.shadowing(node, name)

    def shadowing(self, node: ast.AST, name: str) -> None:
        hidden = name in BUILTINS or name in self.rules.forbidden_globals
        if (hidden and name not in self.rules.builtins) or name in self.rules.provided:
            self.refuse(node, f"{name} rebound", "this name has a meaning of its own; choose another")

    def underscore(self, node: ast.AST, name: str) -> None:
        if name.startswith("_") and name != "_":
            self.refuse(
                node, name, "names do not begin with an underscore, except a method that is called __init__"
            )

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.underscore(node, node.attr)
        module = self.bindings.module_of(node.value)
        if module is not None:
            if not isinstance(node.ctx, ast.Load):
                self.refuse(node, f"{module}.{node.attr} rebound", "modules cannot be changed")
            elif self.bindings.module_of(node) is not None:
                self.refuse(node, f"{module}.{node.attr} as a value", "use a module only as module.name")
            else:
                self.module_name(node, module, node.attr)
            return
        base = node.value.id if isinstance(node.value, ast.Name) else ""
        if base != "self" and not isinstance(node.ctx, ast.Load):
            self.refuse(node, f"assignment to .{node.attr}", "set attributes only on self")
        elif not self.own(base, node.attr) and node.attr not in self.rules.attributes:
            advice = f"this attribute is not available{_closest(node.attr, self.rules.attributes)}"
            self.refuse(node, f".{node.attr}", advice)
        self.visit(node.value)

    def own(self, base: str, attribute: str) -> bool:
        """Whether an attribute is one that the candidate defines itself.

        On `self`: what it sets there, and methods and constants of its classes. On a class: constants and
        static methods, but no method with `self`, which would take any object for its own.
        """
        if base == "self":
            return attribute in self.bindings.attributes or attribute in self.bindings.methods
        return base in self.bindings.classes and attribute in self.bindings.class_names

    def module_name(self, node: ast.AST, module: str, name: str) -> None:
        allowed = self.rules.modules.get(module, frozenset())
        if name not in allowed:
            self.refuse(node, f"{module}.{name}", f"this is not available{_closest(name, allowed)}")

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg:
            self.underscore(node.value, node.arg)
        self.visit(node.value)

    # Values and flow

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str | bytes) and len(node.value) > MAX_STRING:
            self.refuse(
                node, "long string", f"write at most {MAX_STRING:,} characters; compute tables instead"
            )
        if isinstance(node.value, int) and is_huge(node):
            self.refuse(node, "large integer", "write integers below 2**63")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if is_huge(node):
            self.refuse(node, "large integer", "write constants below 2**63, or floats")
        else:
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        for handler in node.handlers:
            kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            if not all(isinstance(kind, ast.Name) and kind.id in EXCEPTIONS for kind in kinds):
                self.refuse(handler, "except", f"catch only {', '.join(sorted(EXCEPTIONS))}, by name")
            if handler.name:
                self.binding(handler, handler.name)
        if node.finalbody:
            self.refuse(node.finalbody[0], "finally", "write the statements after the try statement")
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.name:
            self.binding(node, node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.binding(node, node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        if node.rest:
            self.binding(node, node.rest)
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        if reason := REFUSED.get(type(node)):
            self.refuse(node, *reason)
        super().generic_visit(node)


REFUSED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Global: ("global", "keep state on self"),
    ast.Nonlocal: ("nonlocal", "return the value, or keep it on self"),
    ast.AsyncFunctionDef: ("async", "write a plain function"),
    ast.AsyncFor: ("async", "write a plain loop"),
    ast.AsyncWith: ("async", "write a plain with statement"),
    ast.Await: ("await", "call the function directly"),
    ast.Yield: ("yield", "build and return a list"),
    ast.YieldFrom: ("yield", "build and return a list"),
    ast.TryStar: ("except*", "use a plain except with named exceptions"),
    ast.MatchClass: ("class pattern", "compare with == in an if statement"),
}


def _closest(name: str, allowed: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, sorted(allowed), n=3, cutoff=0.6)
    return f"; close to it: {', '.join(found)}" if found else "; see the interface for what is"
