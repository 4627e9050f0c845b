"""From a reply to the text of a program, or to what the model has to be told."""

import re

from evolve.llm.blocks import apply_blocks, has_blocks, read_blocks
from evolve.llm.conversation import without_reasoning
from evolve.llm.errors import ReplyError
from evolve.llm.fences import defines, fenced_texts, syntax_error, unfenced_program

DEFINITION = re.compile(r"^(?:class|def) (\w+)", re.MULTILINE)
MARKER = re.compile(r"^[ \t]*#\s*EVOLVE-BLOCK-(START|END)\b.*\n?", re.MULTILINE)


def names_required(interface: str) -> frozenset[str]:
    """The classes and functions that an interface text defines: a program has to have one of them."""
    return frozenset(DEFINITION.findall(interface))


def read_program(reply: str, parents: tuple[str, ...], required: frozenset[str]) -> str:
    """The program that a reply proposes in place of `parents[0]`.

    SEARCH/REPLACE blocks are applied to that parent, anything else has to be a whole program with one of the
    `required` names. What is outside of the parent's EVOLVE-BLOCK markers stays as it is. Raises
    ReplyError, and nothing else, for a reply of which no new program can be made.
    """
    answer = without_reasoning(reply).replace("\r\n", "\n")
    if not answer.strip():
        raise ReplyError("The reply is empty." + (" Only reasoning was in it." if reply.strip() else ""))
    parent = parents[0]
    is_diff = has_blocks(answer)
    source = _patched(answer, parent) if is_diff else _framed(parent, _whole(answer, required))
    if error := syntax_error(source):
        raise ReplyError(_cannot_parse(error), source)
    if required and not defines(source, required):
        names = " or ".join(sorted(required))
        raise ReplyError(f"The program defines no {names} at its top level.", source)
    if _bare(source) in map(_bare, parents):
        which = "the one that was to be changed" if _bare(source) == _bare(parent) else "one that was shown"
        raise ReplyError(f"The program is the same as {which}. Change what it does.", source)
    return source


def require_shorter(source: str, parent: str) -> None:
    """Raises ReplyError unless a program has less text in it than its parent, blanks aside."""
    length, before = (len("".join(text.split())) for text in (source, parent))
    if length >= before:
        raise ReplyError(
            f"The program has {length} characters beside blanks, the one to simplify has {before}. Answer "
            "with a shorter one that does exactly the same.",
            source,
        )


def _patched(answer: str, parent: str) -> str:
    try:
        source = apply_blocks(parent, read_blocks(answer))
    except ReplyError as error:
        raise ReplyError(str(error), answer) from None
    frame = _outside(parent)
    if len(frame) > 1 and _outside(source) != frame:
        raise ReplyError(
            "A block changes what is outside of the lines # EVOLVE-BLOCK-START and # EVOLVE-BLOCK-END. "
            "Change only what is between them.",
            source,
        )
    return source


def _whole(answer: str, required: frozenset[str]) -> str:
    """The program of a reply: of several, the last that parses and is complete; else the longest text."""
    fenced = fenced_texts(answer)
    texts = [one for one in fenced if one.may_be_python] or fenced
    if not texts:
        source = unfenced_program(answer)
        if source is None:
            raise ReplyError("The reply has no program in it. Put it between ```python and ```.", answer)
        return source
    parsed = [one.text for one in texts if one.text and syntax_error(one.text) is None]
    if complete := [text for text in parsed if defines(text, required)]:
        return complete[-1]
    if parsed and not required:
        return max(parsed, key=len)
    longest = max(texts, key=lambda one: len(one.text))
    if not longest.closed and syntax_error(longest.text):
        raise ReplyError(
            "The reply is cut off before the program ends. Answer with a shorter program, and with few words "
            "beside it.",
            longest.text,
        )
    return longest.text


def _framed(parent: str, source: str) -> str:
    """`source` with what the parent has outside of its markers. Raises ReplyError if it has none."""
    frame = _outside(parent)
    if len(frame) == 1:
        return source
    inside = _pieces(source)[1::2]
    if len(inside) != len(frame) - 1:
        raise ReplyError(
            "The program has to keep the lines # EVOLVE-BLOCK-START and # EVOLVE-BLOCK-END, with the new "
            "code between them.",
            source,
        )
    return frame[0] + "".join(new + after for new, after in zip(inside, frame[1:], strict=True))


def _outside(source: str) -> list[str]:
    """The parts of a program that stay, with the lines of the markers; one part if there are no markers."""
    return _pieces(source)[::2]


def _pieces(source: str) -> list[str]:
    """A program cut after each START and before each END line; what is inside stands at odd places.

    Markers that are not in pairs are none.
    """
    marks = list(MARKER.finditer(source))
    kinds = [mark[1] for mark in marks]
    if not marks or kinds != ["START", "END"] * (len(kinds) // 2):
        return [source]
    cuts = [mark.end() if mark[1] == "START" else mark.start() for mark in marks]
    return [source[start:end] for start, end in zip([0, *cuts], [*cuts, len(source)], strict=True)]


def _cannot_parse(error: SyntaxError) -> str:
    line = f" in line {error.lineno}" if error.lineno else ""
    text = f": `{error.text.strip()[:200]}`" if error.text and error.text.strip() else ""
    return f"Python cannot parse the program{line} ({error.msg}){text}."


def _bare(source: str) -> str:
    """A program without what is at the ends of its lines."""
    return "\n".join(line.rstrip() for line in source.strip().split("\n"))
