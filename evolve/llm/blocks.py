"""SEARCH/REPLACE blocks: found in a reply, and applied to a program.

All blocks are matched with the program as it was shown, so that none can match what another one wrote.
Lines are compared exactly first, then without what ends them, then up to a common indentation.
"""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

from evolve.llm.errors import ReplyError

SEARCH = re.compile(r"\s*<{5,9}\s*(?:SEARCH|ORIGINAL)\b.*", re.IGNORECASE)
MIDDLE = re.compile(r"\s*={5,9}\s*")
REPLACE = re.compile(r"\s*>{5,9}\s*(?:REPLACE|UPDATED)\b.*", re.IGNORECASE)
SHOWN = 200  # characters of a line that are quoted


@dataclass(frozen=True)
class Block:
    """Lines to be found, and the lines that take their place."""

    search: tuple[str, ...]
    replace: tuple[str, ...]


@dataclass(frozen=True)
class _Change:
    """Lines `start` to `end` of the program become `lines`."""

    start: int
    end: int
    lines: tuple[str, ...]


def has_blocks(text: str) -> bool:
    """Whether a reply speaks in SEARCH/REPLACE blocks at all."""
    return any(SEARCH.fullmatch(line) for line in text.split("\n"))


def read_blocks(text: str) -> list[Block]:
    """The blocks of a reply, in their order. Raises ReplyError when one is not complete."""
    blocks: list[Block] = []
    search: list[str] | None = None  # lines of the part that is being read
    replace: list[str] | None = None
    for line in text.split("\n"):
        if search is None:
            search = [] if SEARCH.fullmatch(line) else None
        elif SEARCH.fullmatch(line):
            raise ReplyError(f"Block {len(blocks) + 1} has no line `>>>>>>> REPLACE` at its end.")
        elif replace is None and MIDDLE.fullmatch(line):
            replace = []
        elif REPLACE.fullmatch(line):
            if replace is None:
                raise ReplyError(f"Block {len(blocks) + 1} has no line `=======` in its middle.")
            blocks.append(Block(tuple(search), tuple(replace)))
            search = replace = None
        else:
            (search if replace is None else replace).append(line)
    if search is not None:
        raise ReplyError(
            f"Block {len(blocks) + 1} has no end: the reply seems to be cut off. Answer with fewer or "
            "shorter blocks."
        )
    return blocks


def apply_blocks(source: str, blocks: list[Block]) -> str:
    """`source` with all blocks applied. Raises ReplyError when one does not match exactly one place."""
    lines = source.split("\n")
    changes = sorted(
        (_place(lines, block, number) for number, block in enumerate(blocks, 1)), key=lambda c: c.start
    )
    result, done = list[str](), 0
    for change in changes:
        if change.start < done:
            raise ReplyError(
                f"Two blocks change line {change.start + 1} of the program ({_quoted(lines[change.start])}). "
                "Make one block of them."
            )
        result += [*lines[done : change.start], *change.lines]
        done = change.end
    return "\n".join([*result, *lines[done:]])


def _place(lines: list[str], block: Block, number: int) -> _Change:
    """Where in a program a block applies."""
    search, replace = block.search, block.replace
    if places := _matches(lines, search, _same):
        return _only(places, search, replace, number)
    search, replace = _without_blank_ends(search), _without_blank_ends(replace)
    if not search:
        raise ReplyError(
            f"The SEARCH part of block {number} is empty. Repeat the lines of the program that change."
        )
    if places := _matches(lines, search, str.rstrip):
        return _only(places, search, replace, number)
    if places := _matches(lines, search, str.strip):
        shifts = {place: _shift(lines[place : place + len(search)], search) for place in places}
        if even := [place for place in places if shifts[place] is not None]:
            change = _only(even, search, replace, number)
            shift = shifts[change.start] or 0
            return _Change(change.start, change.end, tuple(_shifted(line, shift) for line in replace))
    raise ReplyError(_not_found(lines, search, number))


def _same(line: str) -> str:
    return line


def _matches(lines: list[str], search: tuple[str, ...], form: Callable[[str], str]) -> list[int]:
    """Where `search` begins in `lines` when lines of equal `form` count as equal; nowhere if it is blank."""
    wanted = [form(line) for line in search]
    if not any(line.strip() for line in wanted):
        return []
    present = [form(line) for line in lines]
    starts = range(len(present) - len(wanted) + 1)
    return [s for s in starts if present[s] == wanted[0] and present[s : s + len(wanted)] == wanted]


def _only(places: list[int], search: tuple[str, ...], replace: tuple[str, ...], number: int) -> _Change:
    if len(places) > 1:
        raise ReplyError(
            f"The SEARCH part of block {number} occurs {len(places)} times, first in lines "
            f"{places[0] + 1} and {places[1] + 1}. Repeat more of the lines around the change."
        )
    return _Change(places[0], places[0] + len(search), replace)


def _without_blank_ends(lines: tuple[str, ...]) -> tuple[str, ...]:
    full = [number for number, line in enumerate(lines) if line.strip()]
    return lines[full[0] : full[-1] + 1] if full else ()


def _shift(present: list[str], search: tuple[str, ...]) -> int | None:
    """How many columns `present` is further to the right than `search`; None if that differs by line."""
    shifts = {
        _indent(there) - _indent(here) for there, here in zip(present, search, strict=True) if here.strip()
    }
    return shifts.pop() if len(shifts) == 1 else None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _shifted(line: str, columns: int) -> str:
    if not line.strip():
        return line
    return " " * columns + line if columns >= 0 else line[min(-columns, _indent(line)) :]


def _not_found(lines: list[str], search: tuple[str, ...], number: int) -> str:
    """Says which line of a block is not in the program, and which one of the program it may mean."""
    present = {line.strip()[:SHOWN] for line in lines}
    missing = next((line for line in search if line.strip()[:SHOWN] not in present), None)
    if missing is None:
        return (
            f"The lines of the SEARCH part of block {number} are all in the program, but not in a row. "
            "Repeat consecutive lines, without leaving any out."
        )
    close = difflib.get_close_matches(missing.strip()[:SHOWN], sorted(present), n=1)
    hint = f" The closest line of the program is {_quoted(close[0])}." if close else ""
    return (
        f"The SEARCH part of block {number} does not occur in the program: it has no line "
        f"{_quoted(missing)}.{hint} Repeat lines of the program exactly."
    )


def _quoted(line: str) -> str:
    return f"`{line.strip()[:SHOWN]}`"
