"""The smallest program that still does what a hostile one does."""

import ast
import copy
import time
from collections.abc import Callable

BLOCKS = ("body", "orelse", "finalbody")


def shrunk(source: str, honest: str, still: Callable[[str], bool], until: float) -> str:
    """The program without the statements that it can do without; `still` tells whether a program does it.

    Statements are left out one by one, large ones first, until none can go or the clock is at `until`
    (of `time.monotonic`). What the `honest` program consists of stays as it is or goes as a whole: half of
    an honest function may cheat in another way.
    """
    module = ast.parse(source)
    whole = {ast.unparse(statement) for statement in ast.parse(honest).body}
    plain = ast.unparse(module)
    if not still(plain):
        return source
    gone = True
    while gone:
        gone = False
        for place in _statements(module, whole):
            if time.monotonic() > until:
                return ast.unparse(module)
            smaller = _without(module, place)
            if smaller is not None and still(ast.unparse(smaller)):
                module, gone = smaller, True
                break
    return ast.unparse(module)


def _statements(module: ast.Module, whole: set[str]) -> list[tuple[int, str, int]]:
    """Where each statement is: number of its parent in a walk, block, position; large ones first."""
    kept = [statement for statement in module.body if _named(statement) in whole]
    fixed = {id(node) for statement in kept for node in ast.walk(statement)}
    found = [
        (len(ast.unparse(statement)), (number, block, position))
        for number, node in enumerate(ast.walk(module))
        for block in BLOCKS
        if id(node) not in fixed and isinstance(getattr(node, block, None), list)
        for position, statement in enumerate(getattr(node, block))
    ]
    return [place for _, place in sorted(found, key=lambda one: -one[0])]


def _without(module: ast.Module, place: tuple[int, str, int]) -> ast.Module | None:
    """The program without one statement; None where something has to stand there."""
    number, block, position = place
    smaller = copy.deepcopy(module)
    for index, node in enumerate(ast.walk(smaller)):
        if index == number:
            statements = getattr(node, block)
            if len(statements) == 1 and block == "body" and not isinstance(node, ast.Module):
                if isinstance(statements[0], ast.Pass):
                    return None
                statements[position] = ast.Pass()
            else:
                del statements[position]
            return ast.fix_missing_locations(smaller)
    return None


def _named(statement: ast.stmt) -> str:
    """The text of a statement, with a function under the name that it had in the honest program."""
    return ast.unparse(statement).replace("def honest_", "def ", 1)
