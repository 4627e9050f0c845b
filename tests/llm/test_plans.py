"""Plans and lessons: how they are read from a reply, and which plans differ the most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evolve.llm.errors import ReplyError
from evolve.llm.lessons import read_lessons
from evolve.llm.plans import LONGEST, as_list, most_different, read_plans

PLANS = ["Sample the tail uniformly.", "Keep pages by their bounds.", "Reuse the last selection."]


@pytest.mark.parametrize(
    "reply",
    [
        "1. Sample the tail uniformly.\n2. Keep pages by their bounds.\n3. Reuse the last selection.",
        "Here they are:\n\n1) Sample the tail\n   uniformly.\n2) Keep pages by their bounds.\n\n3) Reuse the "
        "last selection.\n",
        "### Plan 1: Sample the tail uniformly.\n### Plan 2: Keep pages by their bounds.\n### Plan 3: Reuse "
        "the last selection.",
        "**1.** Sample the tail uniformly.\r\n**2.** Keep pages by their bounds.\r\n**3.** Reuse the last "
        "selection.",
        "<think>\n1. No.\n2. No.\n</think>\n\n1. Sample the tail uniformly.\n2. Keep pages by their bounds.\n"
        "3. Reuse the last selection.",
    ],
)
def test_plans_are_read(reply):
    assert read_plans(reply, 2) == PLANS


@pytest.mark.parametrize("reply", ["", "I would sample.", "1. Sample.", "1. Sample.\n2. Sample.", "1.\n2.\n"])
def test_too_few_plans_are_refused_with_what_is_wanted(reply):
    with pytest.raises(ReplyError, match=r"numbered plans, 4 are asked for.*`1\. \.\.\.`"):
        read_plans(reply, 2)


def test_plans_are_written_as_they_are_read():
    assert read_plans(as_list(PLANS), 2) == PLANS


def test_long_plan_is_cut():
    assert [len(plan) for plan in read_plans(f"1. {'x' * 9000}\n2. y", 2)] == [LONGEST, 1]


def test_those_that_share_the_fewest_words_are_taken():
    plans = [
        "sample the tail uniformly",
        "sample the tail evenly",
        "page bounds decide",
        "sample the whole tail",
    ]
    assert most_different(plans, 2) == ["sample the tail uniformly", "page bounds decide"]


@given(plans=st.lists(st.text(max_size=40), min_size=2, max_size=6, unique=True), count=st.integers(1, 2))
def test_as_many_plans_are_taken_as_are_wanted(plans, count):
    taken = most_different(plans, count)
    assert len(set(taken)) == count
    assert set(taken) <= set(plans)


def test_lessons_are_the_items_of_a_list():
    reply = "Lessons:\n- - Sample the tail.\n* **Share** the budget.\n1. Keep sinks.\n\nGood luck."
    assert read_lessons(reply) == ("Sample the tail.", "Share the budget.", "Keep sinks.")


def test_lessons_are_few_short_and_different():
    reply = "\n".join([f"- {'x' * 500}", "- same", "- same", *(f"- lesson {n}" for n in range(9))])
    lessons = read_lessons(reply)
    assert lessons[1:] == ("same", "lesson 0", "lesson 1")
    assert len(lessons[0]) == 100


@pytest.mark.parametrize("reply", ["", "They are all alike.", "<think>- no</think>", "(skipped)"])
def test_without_a_list_there_is_no_lesson(reply):
    assert read_lessons(reply) == ()


@given(st.text())
def test_any_reply_has_lessons_or_none(reply):
    assert all(lesson and len(lesson) <= 100 and "\n" not in lesson for lesson in read_lessons(reply))
