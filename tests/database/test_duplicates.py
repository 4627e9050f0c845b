"""Duplicates are found by program and by behaviour, counted by kind and operator, and re-tests by outcome."""

from dataclasses import replace

import pytest

from database.records import DuplicateKind, Retests

EXACT, NORMALISED, BEHAVIOURAL = DuplicateKind


def test_program_is_known_from_its_first_candidate_be_it_a_failure(archive, propose, evaluate):
    hashes = [archive.add_proposal(propose(number)) for number in range(2)]
    archive.add_evaluation(0, evaluate(None, normal="n"))
    archive.add_evaluation(1, evaluate(1.0, normal="n"))
    known = archive.find_normal("n")
    assert (known.hash, known.evaluation.failure) == (hashes[0], "crash")


@pytest.mark.parametrize("normal", ["", "other"])
def test_unknown_program_is_not_found(archive, propose, evaluate, normal):
    archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    assert archive.find_normal(normal) is None


def test_nothing_is_known_by_an_empty_behaviour(archive, propose, evaluate):
    archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0, behaviour=""))
    assert archive.find_behaviour("", "search") is None


def test_duplicates_are_counted_by_operator_and_kind(archive, propose, evaluate):
    first = archive.add_proposal(propose(0, "same"))
    archive.add_evaluation(0, evaluate(1.0))
    copied = evaluate(1.0, duplicate_of=first)
    for number, (source, kind) in enumerate(
        [("same", BEHAVIOURAL), ("b", NORMALISED), ("c", BEHAVIOURAL)], 1
    ):
        archive.add_proposal(propose(number, source, operator="diff" if number == 3 else "tune"))
        archive.add_evaluation(number, copied, repeats=kind)
    assert archive.duplicates_by_operator() == {
        "diff": {EXACT: 0, NORMALISED: 0, BEHAVIOURAL: 1},
        "tune": {EXACT: 1, NORMALISED: 1, BEHAVIOURAL: 0},
    }
    assert archive.duplicates() == 3


def test_equal_source_keeps_the_first_result_even_after_a_failure(archive, propose, evaluate):
    for number in range(2):
        archive.add_proposal(propose(number, "same"))
    archive.add_evaluation(0, evaluate(None))
    assert archive.add_evaluation(1, evaluate(5.0)) is None
    assert (archive.duplicates(), archive.elites()) == (1, [])


def test_retests_are_counted_by_their_outcome(archive, propose, evaluate):
    first = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    for number, agreed in enumerate([True, True, None], 1):
        archive.add_proposal(propose(number))
        archive.add_evaluation(number, replace(evaluate(1.0), duplicate_of=first), agreed=agreed)
    archive.add_proposal(propose(4))
    assert archive.add_evaluation(4, evaluate(2.0), agreed=False) is not None
    assert archive.retests() == Retests(2, 1)


@pytest.mark.parametrize("change", [{"repeats": NORMALISED}, {"agreed": True}])
def test_kind_and_retest_of_a_duplicate_decide_the_content_hash(archive, url, propose, evaluate, change):
    first = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    archive.add_proposal(propose(1))
    archive.add_evaluation(1, evaluate(1.0, duplicate_of=first), **change)
    changed = archive.content_hash()
    from sqlalchemy import update

    from database import schema

    with archive._change() as connection:
        connection.execute(
            update(schema.Proposal)
            .values(duplicate_kind=None, agreed=None)
            .where(schema.Proposal.number == 1)
        )
    assert archive.content_hash() != changed
