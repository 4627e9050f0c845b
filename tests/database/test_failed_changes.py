"""What is told of the changes of a candidate that failed."""

from dataclasses import replace

import pytest

from database.records import Failure


@pytest.fixture
def change(archive, propose, evaluate):
    """Stores a change of a candidate and what became of it."""

    def change(number: int, parent: str, failure: str | None) -> None:
        archive.add_proposal(propose(number, parents=(parent,)))
        result = evaluate(1.0 if failure is None else None, message=f"message {number}")
        archive.add_evaluation(number, replace(result, failure=failure))

    return change


def test_the_latest_failures_come_first_and_no_more_than_asked_for(archive, propose, evaluate, change):
    parent = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    for number, failure in enumerate(("crash", None, "timeout", "memory"), 1):
        change(number, parent, failure)
    told = archive.failed_changes(parent, completed=99, most=2)
    assert told == [Failure("x = 4", "memory", "message 4"), Failure("x = 3", "timeout", "message 3")]


def test_only_what_was_completed_then_is_told(archive, propose, evaluate, change):
    parent = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    change(1, parent, "crash")
    change(2, parent, "memory")
    assert [failure.kind for failure in archive.failed_changes(parent, completed=2, most=5)] == ["crash"]


def test_replies_of_which_no_program_could_be_made_are_not_told(archive, propose, evaluate):
    parent = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    archive.add_proposal(propose(1, source="Sorry.", parents=(parent,), detail="no program in it"))
    archive.add_evaluation(1, evaluate(None))
    assert archive.failed_changes(parent, completed=9, most=5) == []


def test_failures_of_others_and_of_second_parents_are_not_told(archive, propose, evaluate):
    parent, other = archive.add_proposal(propose(0)), archive.add_proposal(propose(1))
    archive.add_evaluation(0, evaluate(1.0))
    archive.add_evaluation(1, evaluate(1.0))
    archive.add_proposal(propose(2, parents=(other, parent)))
    archive.add_evaluation(2, evaluate(None))
    assert archive.failed_changes(parent, completed=9, most=5) == []
