"""Replies as models write them, and the programs that are read from them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.llm.errors import ReplyError
from evolve.llm.parse import names_required, read_program

PARENT = "import math\n\n\nclass Policy:\n    def act(self):\n        return 1\n"
OTHER = "class Policy:\n    def act(self):\n        return 7\n"
BETTER = "import math\n\n\nclass Policy:\n    def act(self):\n        return math.pi\n"
MARKED = (
    "import math\n# EVOLVE-BLOCK-START\nclass Policy:\n    def act(self):\n        return 1\n"
    "# EVOLVE-BLOCK-END\nLIMIT = 3\n"
)
FENCES = ["```", "```python", "~~~", "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE", "<think>", "</think>"]
LINES = [
    BETTER,
    "class Policy:",
    "    pass",
    "# EVOLVE-BLOCK-START",
    "# EVOLVE-BLOCK-END",
    "",
    "It's",
    "\0",
    "(",
]


def read(reply: str, *parents: str, required: str = "Policy") -> str:
    return read_program(reply, parents or (PARENT, OTHER), frozenset([required] if required else []))


def refusal(reply: str, *parents: str) -> ReplyError:
    with pytest.raises(ReplyError) as raised:
        read(reply, *parents)
    return raised.value


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{BETTER}```",
        f"I use pi.\n\n```py\n{BETTER}```\nIt's better: 3.14 > 1.",
        f"```\n{BETTER}\n```",
        f"```Python title=policy.py\n{BETTER}```",
        f"~~~python\n{BETTER}~~~",
        f"````python\n{BETTER}````",
        BETTER,
        f"Here is the program:\n\n{BETTER}",
        f"{BETTER}\n\nIt's better, because:\n- pi is larger\n- it is round\n",
        f"```python\n{BETTER}",
        f"```python\r\n{BETTER}```".replace("\n", "\r\n"),
        f"1. Do this:\n   ```python\n{BETTER}   ```",
        f"First a draft:\n```python\n{OTHER}```\nBetter:\n```python\n{BETTER}```\n",
        f"```python\n{BETTER}```\nTo try it:\n```python\nPolicy().act()\n```\n```bash\npython x.py\n```",
        f"```json\n{{}}\n```\n```python\n{BETTER}```",
        f"<think>\n```python\n{OTHER}```\nor not?\n</think>\n```python\n{BETTER}```",
        f"the template opened it\n</think>\n```python\n{BETTER}```",
    ],
)
def test_program_is_found(reply):
    assert read(reply) == BETTER


def test_indented_program_is_moved_to_the_left():
    indented = "".join(f"    {line}\n" if line else "\n" for line in BETTER.split("\n"))
    assert read(f"- this:\n    ```python\n{indented}    ```") == BETTER


def test_diff_is_applied_to_the_first_parent():
    reply = "Because.\n```\n<<<<<<< SEARCH\n        return 1\n=======\n        return 2\n>>>>>>> REPLACE\n```"
    assert read(reply) == PARENT.replace("return 1", "return 2")


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("", "The reply is empty."),
        (" \n", "The reply is empty."),
        ("<think>\nI wonder", "Only reasoning"),
        ("I'm sorry, but I can't help with that.", "no program in it"),
        (
            "```python\nclass Policy:\n    def act(self):\n        return (1 +",
            "cut off before the program ends",
        ),
        (
            "```python\nclass Policy:\n    def act(self)\n        return 2\n```",
            "line 2 .*`def act\\(self\\)`",
        ),
        ("```python\ndef policy():\n    return 2\n```", "defines no Policy"),
        (
            "class Policy:\n    def a(self):\n        It's\n\n    def b(self):\n        return 2",
            "cannot parse",
        ),
        (f"```python\n{PARENT}```", "same as the one that was to be changed"),
        (f"```python\n{OTHER}\n\n```", "same as one that was shown"),
        ("<<<<<<< SEARCH\nimport math\n=======\nimport math  \n>>>>>>> REPLACE", "same as the one"),
        ("<<<<<<< SEARCH\nimport meth\n=======\nimport x\n>>>>>>> REPLACE", "does not occur"),
    ],
)
def test_unusable_reply_is_refused(reply, message):
    with pytest.raises(ReplyError, match=message):
        read(reply)


def test_refusal_carries_what_comes_closest_to_a_program():
    assert refusal("```python\ndef policy():\n    return 2\n```").source == "def policy():\n    return 2\n"
    assert refusal("I'm sorry.").source == "I'm sorry."
    assert refusal("").source == ""


def test_program_that_lost_its_middle_is_not_evaluated():
    assert "cannot parse" in str(
        refusal(f"{BETTER}\n    def b(self) return 3\n\n    def c(self):\n        pass")
    )


def test_what_is_outside_of_the_markers_stays():
    reply = (
        MARKED.replace("return 1", "return 2").replace("LIMIT = 3", "LIMIT = 9").replace("import math\n", "")
    )
    assert read(f"```python\n{reply}```", MARKED) == MARKED.replace("return 1", "return 2")


def test_program_without_the_markers_is_refused():
    assert "has to keep the lines # EVOLVE-BLOCK-START" in str(refusal(f"```python\n{BETTER}```", MARKED))


def test_diff_outside_of_the_markers_is_refused():
    reply = "<<<<<<< SEARCH\nLIMIT = 3\n=======\nLIMIT = 9\n>>>>>>> REPLACE"
    assert "outside of the lines" in str(refusal(reply, MARKED))


def test_diff_inside_of_the_markers_is_applied():
    reply = "<<<<<<< SEARCH\n        return 1\n=======\n        return 2\n>>>>>>> REPLACE"
    assert read(reply, MARKED) == MARKED.replace("return 1", "return 2")


def test_without_required_names_the_longest_program_is_taken():
    assert read(f"```\n{BETTER}```\n```\nx = 1\n```", required="") == BETTER


def test_interface_says_what_a_program_has_to_define():
    from evaluators.problem import get_problem

    assert names_required(get_problem("token_selection").interface) == {"Policy"}


def test_doubtful_escapes_cause_no_warning(recwarn):
    assert read("class Policy:\n    x = '\\d'\n")
    assert not recwarn.list


def test_huge_reply_is_read_in_no_time():
    assert "defines no Policy" in str(refusal("import a\n" + "x" * 200_000 + " y\n" + "`" * 200_000))


@given(
    st.text() | st.lists(st.sampled_from(FENCES + LINES)).map("\n".join),
    st.sampled_from([PARENT, MARKED, ""]),
)
def test_nothing_but_a_reply_error_comes_of_any_reply(reply, parent):
    with suppress(ReplyError):
        assert read(reply, parent)
