"""The rooms import one way, and no file has grown beyond what one can read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("evolve", "evaluators", "sandbox", "database", "kernels", "seeds")
ALLOWED = {
    "evolve": {"evolve", "evaluators", "sandbox", "database", "kernels"},
    "evaluators": {"evaluators", "kernels"},
    "sandbox": {"sandbox"},
    "database": {"database"},
    "kernels": {"kernels"},
    "seeds": set(),
}
FILES = [
    path
    for room in (*ROOMS, "tests")
    for path in sorted((ROOT / room).rglob("*.py"))
    if "texts" not in path.parts
]


def imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names} & set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_the_design_allows(room):
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == room:
            assert imported_rooms(path) <= ALLOWED[room], path


def test_no_file_is_longer_than_400_lines():
    long = {str(path): n for path in FILES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400}
    assert long == {}
