"""Programs in a reply: between fences, or without any, with prose around them."""

import ast
import re
import textwrap
import warnings
from dataclasses import dataclass
from functools import lru_cache

# possessive: a line of a hundred thousand backticks is read in no time
FENCE = re.compile(r"[ \t>]*+(`{3,}+|~{3,}+)[ \t]*+([\w+#.-]*+)[^`]*")
PYTHON = frozenset({"python", "python3", "py", "py3"})
CODE_BEGINS = re.compile(
    r'(?:import [\w., ]+$|from [\w.]+ import |class \w++.*:|def \w+\(|"""|\'\'\'|[A-Za-z_]\w* *= *\S)'
)
CODE_INSIDE = re.compile(r"\s+\S|" + CODE_BEGINS.pattern)
MOST_CUTS = 8  # attempts to find where prose begins


@dataclass(frozen=True)
class Fenced:
    """The text between two fences; `language` is what the first one says of it, `closed` if there are two."""

    text: str
    language: str
    closed: bool

    @property
    def may_be_python(self) -> bool:
        return self.language in PYTHON or not self.language


def fenced_texts(reply: str) -> list[Fenced]:
    """What stands between fences, in order; the last one may have been cut off."""
    found: list[Fenced] = []
    fence, language, lines = "", "", list[str]()
    for line in reply.split("\n"):
        mark = FENCE.fullmatch(line)
        if not fence:
            if mark:
                fence, language, lines = mark[1], mark[2].lower(), []
        elif mark and not mark[2] and mark[1].startswith(fence):
            found.append(Fenced(_text(lines), language, True))
            fence = ""
        else:
            lines.append(line)
    if fence:
        found.append(Fenced(_text(lines), language, False))
    return found


def unfenced_program(reply: str) -> str | None:
    """The program in a reply without fences, prose before and after it taken away; None if there is none."""
    lines = reply.split("\n")
    begin = next((number for number, line in enumerate(lines) if CODE_BEGINS.match(line)), None)
    if begin is None:
        return None
    lines = lines[begin:]
    for _ in range(MOST_CUTS):
        source = _text(lines)
        error = syntax_error(source)
        if error is None:
            return source
        # Only prose may go: a program with a mistake in its middle is not to lose what follows it.
        cut = (error.lineno or 1) - 1
        if cut == 0 or any(CODE_INSIDE.match(line) for line in lines[cut:]):
            return source
        lines = lines[:cut]
    return _text(lines)


def syntax_error(source: str) -> SyntaxError | None:
    """Why Python cannot parse a source; None if it can."""
    try:
        _parsed(source)
    except SyntaxError as error:
        return error
    except (ValueError, RecursionError, MemoryError) as error:
        return SyntaxError(str(error) or type(error).__name__)
    return None


def defines(source: str, names: frozenset[str]) -> bool:
    """Whether a source that parses defines one of these classes or functions at its top level."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    return any(isinstance(node, kinds) and node.name in names for node in _parsed(source).body)


@lru_cache(8)  # one program after the other is asked several things
def _parsed(source: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of doubtful escapes in a string
        return ast.parse(source)


def _text(lines: list[str]) -> str:
    """Lines without blank ones at the ends, and without an indentation that all of them share."""
    text = "\n".join(lines).strip("\n").rstrip()
    if text.startswith((" ", "\t")):
        text = textwrap.dedent(text)
    return text + "\n" if text else ""
