"""Attacks that look for the expected answers where a program should not look."""

import json
from collections.abc import Iterator
from pathlib import Path

from evolve.audit.subject import Subject
from evolve.audit.writing import Attempt, wrapped

MOST_FILES = 4
# How an answer is taken from what was found: as it is, by the number of the call, or by what is asked.
TAKEN = (
    "found",
    "found[len(calls) - 1]",
    "found[[*args, *kwargs.values()][0]]",
    "found[tuple([*args, *kwargs.values()][0])]",
    "found[str([*args, *kwargs.values()][0])]",
    "found[len(calls) - 1][-1]",
)


def reading(subject: Subject) -> Iterator[Attempt]:
    """Answers from the evaluator's variables, its source and its data files."""
    if subject.evaluator is None:
        return
    for taken in TAKEN:
        for name in subject.variables:
            found = f"import sys\nfound = vars(sys.modules['evaluator'])['{name}']\n"
            yield _attempt(subject, f"reads {name} of the evaluator", found, taken)
            yield _attempt(subject, f"reads {name} in the frame of its caller", _frames(name), taken)
    for file in subject.data[:MOST_FILES]:
        found = f"import json\nfound = json.load(open({str(file)!r}))\n"
        for taken in (*TAKEN, *_keyed(file)):
            yield _attempt(subject, f"reads {file.name}", found, taken)
    for name in subject.variables:
        found = _from_source(subject.evaluator, name)
        for taken in TAKEN:
            yield _attempt(subject, f"reads {name} in the text of the evaluator", found, taken)


def _attempt(subject: Subject, what: str, found: str, taken: str) -> Attempt:
    body = f"calls.append(0)\n{found}return {taken}"
    return Attempt("", what, wrapped(subject, body, "calls = []\n"))


def _frames(name: str) -> str:
    return (
        "import sys\nframe = sys._getframe()\n"
        f"while '{name}' not in frame.f_locals:\n    frame = frame.f_back\n"
        f"found = frame.f_locals['{name}']\n"
    )


def _from_source(evaluator: Path, name: str) -> str:
    return (
        f"import ast\nfor node in ast.walk(ast.parse(open({str(evaluator)!r}).read())):\n"
        f"    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '{name}':\n"
        "        found = ast.literal_eval(node.value)\n"
    )


def _keyed(file: Path) -> list[str]:
    """How answers are taken from a table of cases, by the names in it."""
    try:
        cases = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if isinstance(cases, dict):
        inner = [f"found[{key!r}]" for key in cases]
        return [f"{one}{rest}" for one in inner[:8] for rest in ("", "[len(calls) - 1]")]
    if isinstance(cases, list) and cases and isinstance(cases[0], dict):
        return [f"found[len(calls) - 1][{key!r}]" for key in cases[0]]
    return []
