"""Results that are there before their turn survive the death of the driver."""

import math
from dataclasses import replace

from database.archive import Archive
from database.records import SampleRecord


def test_a_result_comes_back_as_it_was(archive, url, propose, evaluate):
    archive.add_proposal(propose(0))
    archive.add_proposal(propose(1))
    result = evaluate(
        0.1, message="\ud800", samples=b"\x00\xff", metrics={"a": 1 / 3, "b": math.inf}, noisy=True
    )
    sample = SampleRecord("ab", "search", "v1", 1, -0.1, samples=b"\x01")
    archive.keep_result(0, result)
    archive.keep_result(1, sample)
    assert Archive.open(url).kept_results() == {0: result, 1: sample}


def test_a_result_is_kept_until_its_proposal_is_completed(archive, url, propose, evaluate):
    archive.add_proposal(propose(0))
    archive.keep_result(0, evaluate(1.0))
    assert archive.completed() == 0
    again = Archive.open(url)
    again.add_evaluation(0, again.kept_results()[0])
    assert again.kept_results() == {}
    assert again.best().score == 1.0


def test_a_result_that_waits_is_not_in_the_content_hash(archive, propose, evaluate):
    archive.add_proposal(propose(0))
    before = archive.content_hash()
    archive.keep_result(0, replace(evaluate(1.0), wall_s=2.0))
    assert archive.content_hash() == before
