"""What stands outside the markers of the initial program stays as it is."""

import pytest

from evaluators.script.problem import script_problem
from sandbox.screen import screen

TEMPLATE = """\
import math
# EVOLVE-BLOCK-START
def inner(x):
    return x
# EVOLVE-BLOCK-END
def outer(x):
    '''Fixed.'''
    return inner(x)
"""
RULES = script_problem(None, TEMPLATE).language
FREE = script_problem(None, "x = 1\n").language


def refused(source: str, rules=RULES) -> list[str]:
    return [refusal.construct for refusal in screen(source, rules)]


@pytest.mark.parametrize(
    "block",
    [
        "def inner(x):\n    return x + 1\n",
        "",
        "import os\n\ndef inner(x):\n    global y\n    y = eval('1')\n",
    ],
)
def test_anything_may_stand_between_the_markers(block):
    assert refused(TEMPLATE.replace("def inner(x):\n    return x\n", block)) == []


def test_spaces_at_line_ends_and_the_last_line_do_not_matter():
    assert refused(TEMPLATE.replace("import math\n", "import math  \n").rstrip("\n")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import math\n", ""),
        ("return inner(x)", "return 1e9"),
        ("# EVOLVE-BLOCK-END\n", ""),
        ("# EVOLVE-BLOCK-START\n", ""),
        ("    return x\n", "    return x\n# EVOLVE-BLOCK-END\nevil = 1\n# EVOLVE-BLOCK-START\n"),
        ("    return x\n", "    return x\nkept = '''\n"),
    ],
)
def test_a_change_outside_the_markers_is_refused(old, new):
    source = TEMPLATE.replace(old, new, 1)
    assert refused(source) in (["a change outside the markers"], ["syntax"])


def test_without_markers_all_of_it_may_change():
    assert refused("def other():\n    import os\n    return os\n", FREE) == []


def test_syntax_and_size_are_checked_all_the_same():
    assert refused("def (", FREE) == ["syntax"]
    assert refused("x = 1\n" * 100_000, FREE) != []
