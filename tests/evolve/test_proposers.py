"""What a model is told of the screen's objections."""

from evaluators.problem import get_problem
from evolve.proposers import MOST_OBJECTIONS, objections_of

LANGUAGE = get_problem("token_selection").language


def test_every_construct_is_objected_to_once_so_that_none_is_hidden():
    lines = "        x = PAGE\n" * 9 + "        y = SIZE\n"
    source = f"import os\n\n\nclass Policy:\n    def select(self):\n{lines}"
    said = objections_of(source, LANGUAGE).splitlines()
    assert [line.partition(" is not allowed")[0] for line in said] == [
        "line 1: import os",
        "line 6: the name PAGE",
        "line 15: the name SIZE",
    ]
    assert "define it first" in said[1]


def test_no_more_is_said_than_can_be_read():
    lines = "".join(f"    x = MISSING_{number}\n" for number in range(30))
    source = f"def select():\n{lines}"
    assert len(objections_of(source, LANGUAGE).splitlines()) == MOST_OBJECTIONS


def test_nothing_is_said_of_a_clean_program():
    assert objections_of("class Policy:\n    pass\n", LANGUAGE) == ""
