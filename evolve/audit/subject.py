"""What is known of a program and its evaluator before anybody cheats: what is called, and what it returns."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "kvolve-audit-saw "
MOST_FUNCTIONS = 6
MOST_PLACES = 10
TELLING = (
    "expect",
    "answer",
    "target",
    "truth",
    "solution",
    "label",
    "optim",
    "secret",
    "hidden",
    "refer",
    "gold",
)

# Written behind a program: it tells once of each function what the evaluator gets of it.
SURVEY = """
import json as audit_json, os as audit_os, sys as audit_sys

def audit_places(value, path=()):
    name = type(value).__name__
    if name in ("int", "float") or hasattr(value, "dtype") and getattr(value, "ndim", 1) == 0:
        return {(path, "number")}
    if hasattr(value, "dtype"):
        return {(path, "array")}
    if name == "dict":
        few = len(value) <= 8 and all(type(key) is str for key in value)
        parts = value.items() if few else ((None, part) for part in value.values())
        return {(path, "dict")}.union(*(audit_places(part, (*path, key)) for key, part in parts))
    if name == "list" or name == "tuple":
        kinds = {type(part).__name__ for part in value}
        alike = name == "list" and len(kinds) == 1 or len(value) > 8
        parts = ((None if alike else number, part) for number, part in enumerate(value))
        return {(path, name)}.union(*(audit_places(part, (*path, key)) for key, part in parts))
    return {(path, name)}

def audit_watched(function, name, seen=[]):
    def watched(*args, **kwargs):
        value = function(*args, **kwargs)
        if name not in seen and audit_sys._getframe(1).f_globals is not globals():
            seen.append(name)
            told = [name, sorted(audit_places(value), key=repr)[:10]]
            audit_os.write(2, ("\\n%s" + audit_json.dumps(told) + "\\n").encode())
        return value
    return watched

for audit_name in %r:
    globals()[audit_name] = audit_watched(globals()[audit_name], audit_name)
"""


@dataclass(frozen=True)
class Place:
    """Where something lies in a returned value; None in the path stands for every item."""

    path: tuple[Any, ...]
    kind: str  # number, array, list, tuple, dict, or the name of another type

    def __str__(self) -> str:
        steps = "".join(f"[{'...' if step is None else repr(step)}]" for step in self.path)
        return f"the returned value{steps}"


@dataclass(frozen=True)
class Subject:
    """A program that is to be made to cheat, and what it may know of its evaluator."""

    source: str
    functions: tuple[str, ...]  # those that the evaluator calls
    places: dict[str, tuple[Place, ...]]  # function -> what lies in its first returned value
    evaluator: Path | None = None
    scorers: tuple[str, ...] = ()  # the evaluator's own functions
    constants: tuple[str, ...] = ()  # its numbers
    variables: tuple[str, ...] = ()  # names in it that may hold what is expected, the likeliest first
    data: tuple[Path, ...] = ()


def public_functions(source: str) -> tuple[str, ...]:
    """The functions of a program that an evaluator might call."""
    found = (node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return tuple(dict.fromkeys(name for name in found if not name.startswith("_")))


def survey(source: str, names: tuple[str, ...]) -> str:
    """The program, which also tells what of it is called."""
    return source + SURVEY % (MARK, names)


def surveyed(output: str) -> dict[str, tuple[Place, ...]]:
    """What a surveyed program told of its functions."""
    found: dict[str, tuple[Place, ...]] = {}
    for line in output.splitlines():
        if not line.startswith(MARK):
            continue
        try:
            name, places = json.loads(line.removeprefix(MARK))
            found[str(name)] = tuple(Place(tuple(path), str(kind)) for path, kind in places)
        except (ValueError, TypeError):  # another output has come between
            continue
    return found


def make_subject(
    source: str, places: dict[str, tuple[Place, ...]], evaluator: Path, data: tuple[Path, ...]
) -> Subject:
    """What a reader of the evaluator knows. Without `places`, any function may be the one that is called."""
    module = ast.parse(evaluator.read_text(encoding="utf-8"))
    scorers, constants = [], []
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("evaluate"):
            scorers.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.UnaryOp | ast.BinOp):
            constants += [target.id for target in node.targets if isinstance(target, ast.Name)]
    stored = [
        node.id for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    likely = sorted(dict.fromkeys(stored), key=lambda name: not any(t in name.lower() for t in TELLING))
    return Subject(
        source=source,
        functions=(tuple(places) or public_functions(source))[:MOST_FUNCTIONS],
        places=places,
        evaluator=evaluator,
        scorers=tuple(scorers),
        constants=tuple(constants),
        variables=tuple(likely[:16]),
        data=tuple(file for path in data for file in ([path] if path.is_file() else sorted(path.rglob("*")))),
    )
