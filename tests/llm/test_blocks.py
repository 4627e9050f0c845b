"""SEARCH/REPLACE blocks: what applies where, and what a model is told when one does not."""

import difflib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.llm.blocks import Block, apply_blocks, read_blocks
from evolve.llm.errors import ReplyError

SOURCE = "import math\n\nA = 1\n\ndef f(x):\n    if x:\n        return A\n    return math.pi\n"
LINE = st.sampled_from(["", "a = 1", "    return a", "\tb", "if x:", "# é", "x  ", "pass"])


def block(search: str, replace: str) -> str:
    return written(search.split("\n"), replace.split("\n"))


def written(search: list[str], replace: list[str]) -> str:
    return "\n".join(["<<<<<<< SEARCH", *search, "=======", *replace, ">>>>>>> REPLACE"])


def changed(*blocks: str, source: str = SOURCE) -> str:
    return apply_blocks(source, read_blocks("\n".join(blocks)))


def difference(old: list[str], new: list[str]) -> str:
    """Blocks that make `new` of `old`, each with so many of the lines before it that it occurs once."""
    blocks, free = [], 0
    for kind, start, end, first, last in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if kind == "equal":
            continue
        more = next((m for m in range(start - free + 1) if occurs_once(old, old[start - m : end])), None)
        if more is None:
            return written(old, new)
        blocks.append(written(old[start - more : end], new[first - more : last]))
        free = end
    return "\n".join(blocks)


def occurs_once(lines: list[str], part: list[str]) -> bool:
    starts = range(len(lines) - len(part) + 1)
    return any(map(str.strip, part)) and [lines[s : s + len(part)] for s in starts].count(part) == 1


def test_block_replaces_the_lines_that_it_names():
    assert changed(block("A = 1", "A = 2")) == SOURCE.replace("A = 1", "A = 2")


def test_blocks_match_the_program_as_it_was_shown():
    with pytest.raises(ReplyError, match="block 2 does not occur"):
        changed(block("A = 1", "A = 2"), block("A = 2", "A = 3"))


def test_blocks_apply_in_any_order():
    one, other = block("A = 1", "A = 2"), block("import math", "import cmath as math")
    assert changed(one, other) == changed(other, one)


@given(st.lists(LINE, max_size=12), st.lists(LINE, max_size=12))
def test_applying_a_difference_gives_the_new_program(old, new):
    old, new = ["first", *old], ["first", *new]
    assert changed(difference(old, new), source="\n".join(old)) == "\n".join(new)


def test_blanks_at_line_ends_do_not_matter():
    assert changed(block("def f(x):  \n    if x:\t", "def f(x):\n    if not x:")) == SOURCE.replace(
        "if x", "if not x"
    )


def test_a_block_further_to_the_left_is_moved_to_where_it_belongs():
    assert changed(block("if x:\n    return A", "if x:\n    return -A\n\nelse:\n    pass")) == SOURCE.replace(
        "return A\n", "return -A\n\n    else:\n        pass\n"
    )


def test_a_block_further_to_the_right_is_moved_back():
    assert changed(block("        def f(x):\n            if x:", "        def g(x):\n            if x:")) == (
        SOURCE.replace("def f", "def g")
    )


def test_uneven_indentation_does_not_match():
    with pytest.raises(ReplyError, match="block 1"):
        changed(block("if x:\nreturn A", "pass"))


def test_exact_lines_go_before_similar_ones():
    source = "if a:\n    x = 1\nx = 1\n"
    assert changed(block("x = 1", "x = 2"), source=source) == "if a:\n    x = 1\nx = 2\n"


def test_lines_that_occur_twice_are_refused():
    with pytest.raises(ReplyError, match="occurs 2 times, first in lines 1 and 3"):
        changed(block("x = 1", "x = 2"), source="x = 1\ny = 2\nx = 1\n")


def test_the_model_is_told_the_closest_line():
    with pytest.raises(ReplyError, match=r"no line `return math\.pie`.*closest.*`return math\.pi`"):
        changed(block("    return math.pie", "    return 3"))


def test_left_out_lines_are_named_as_such():
    with pytest.raises(ReplyError, match="not in a row"):
        changed(block("import math\nA = 1", "A = 2"))


def test_empty_search_is_refused():
    with pytest.raises(ReplyError, match="SEARCH part of block 1 is empty"):
        changed(block("", "A = 2"))


def test_two_changes_of_one_line_are_refused():
    with pytest.raises(ReplyError, match="Two blocks change line 3"):
        changed(block("A = 1", "A = 2"), block("import math\n\nA = 1", "A = 3"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<<<<<<< SEARCH\nA = 1\n=======\nA = 2\n", "cut off"),
        ("<<<<<<< SEARCH\nA = 1\n>>>>>>> REPLACE\n", "no line `=======`"),
        ("<<<<<<< SEARCH\nA = 1\n=======\nA = 2\n<<<<<<< SEARCH\n", "no line `>>>>>>> REPLACE`"),
    ],
)
def test_incomplete_block_is_refused(text, message):
    with pytest.raises(ReplyError, match=message):
        read_blocks(text)


def test_markers_may_be_somewhat_off():
    assert read_blocks("  <<<<<< search\na\n======\nb\n>>>>>>>> replace") == [Block(("a",), ("b",))]


@given(st.text(), st.lists(st.builds(Block, st.tuples(st.text()), st.tuples(st.text()))))
def test_nothing_but_a_reply_error_comes_of_any_block(source, blocks):
    with suppress(ReplyError):
        apply_blocks(source, blocks)
