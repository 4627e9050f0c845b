"""What of a program has to stay: everything outside the markers of the program that a run began with."""

from __future__ import annotations

import ast
import re
import textwrap

MARKER = re.compile(r"^[ \t]*#[ \t]*EVOLVE-BLOCK-(START|END)\b.*\n?", re.MULTILINE)


def pieces(source: str) -> list[str]:
    """A program cut behind each START and before each END line: at odd places stands what may change.

    Markers that are not in pairs are none: then all of it may change, and it is the one piece at place 1.
    """
    marks = list(MARKER.finditer(source))
    kinds = [mark[1] for mark in marks]
    if not marks or kinds != ["START", "END"] * (len(kinds) // 2):
        return ["", source, ""]
    cuts = [mark.end() if mark[1] == "START" else mark.start() for mark in marks]
    return [source[start:end] for start, end in zip([0, *cuts], [*cuts, len(source)], strict=True)]


def is_kept(source: str, template: str) -> bool:
    """Whether `source` says outside its markers what `template` says there, spaces at line ends aside."""
    mine, theirs = pieces(source), pieces(template)
    if [_bare(piece) for piece in mine[::2]] != [_bare(piece) for piece in theirs[::2]]:
        return False
    # a string that begins in a block and ends behind it would make text of the code that has to stay
    return all(
        _parses(own) or not _parses(first) for own, first in zip(mine[1::2], theirs[1::2], strict=True)
    )


def _bare(piece: str) -> list[str]:
    return "\n".join(line.rstrip() for line in piece.splitlines()).strip("\n").split("\n")


def _parses(block: str) -> bool:
    try:
        ast.parse(textwrap.dedent(block))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
