"""Model calls: stored when the reply arrives, found again after a kill, summed for the budget."""

import pytest

from database.archive import Archive
from database.records import CallRecord, Cost

CALL = CallRecord(4, 0, "some-model", "prompt €", "reply", 1000, 200, 150, 0.25, 1.5, 1.7e9)


def test_call_comes_back_as_it_was_before_its_proposal_exists(archive):
    archive.add_call(CALL)
    assert archive.calls(4) == [CALL]
    assert archive.next_number() == 0


def test_calls_of_a_proposal_come_back_in_their_order(archive):
    second = CallRecord(4, 1, "some-model", "again", "better")
    archive.add_call(second)
    archive.add_call(CALL)
    assert archive.calls(4) == [CALL, second]
    assert archive.calls(5) == []


def test_call_is_stored_once(archive):
    archive.add_call(CALL)
    with pytest.raises(ValueError, match="call 0 of proposal 4 is stored already"):
        archive.add_call(CALL)


def test_half_a_surrogate_pair_of_a_reply_survives(archive):
    archive.add_call(CallRecord(0, 0, "m", "\ud801", "\udfff"))
    assert [(call.prompt, call.reply) for call in archive.calls(0)] == [("\ud801", "\udfff")]


def test_cost_counts_calls_whose_proposal_never_came(archive, propose):
    archive.add_call(CALL)
    archive.add_call(CallRecord(0, 0, "m", "p", "r", 10, 2, cost_usd=0.5))
    archive.add_proposal(propose(0))
    assert archive.cost() == Cost(1010, 202, 0.75, 150, 2)


def test_paid_reply_is_there_after_the_writer_died(archive, url):
    archive.add_call(CALL)  # and no close: nothing but the commit counts
    assert Archive.open(url, read_only=True).calls(4) == [CALL]
