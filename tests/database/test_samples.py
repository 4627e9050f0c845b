"""Further measurements: scores become means, and promotions that do not hold are undone."""

import math

import pytest

from database.archive import Archive
from database.records import RequestRecord, SampleRecord


def measure(archive: Archive, propose, number: int, of: str, score: float | None) -> None:
    """A proposal that measures a candidate once more."""
    archive.add_proposal(propose(number, archive.candidate(of).source, operator="remeasure", parents=(of,)))
    failure = "timeout" if score is None else None
    archive.add_measurement(number, SampleRecord(of, "search", "v1", number, score, failure))


@pytest.fixture
def contested(archive, propose, evaluate) -> tuple[Archive, str, str]:
    """Two noisy candidates of one cell: the second one seems to be better."""
    first = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0, noisy=True))
    second = archive.add_proposal(propose(1))
    archive.add_evaluation(1, evaluate(2.0, noisy=True))
    return archive, first, second


def test_a_score_becomes_the_mean_of_its_measurements(contested, propose):
    archive, _, second = contested
    measure(archive, propose, 2, second, 1.5)
    measure(archive, propose, 3, second, 1.6)
    assert archive.best().score == pytest.approx(1.7)
    assert archive.leaderboard(1)[0].score == pytest.approx(1.7)
    assert (archive.best().samples, archive.best().measured) == (3, 3)
    assert [sample.score for sample in archive.samples(second, "search")] == [1.5, 1.6]
    assert archive.evaluation(second, "search").score == 2.0


def test_a_promotion_that_does_not_hold_is_undone_and_counted(contested, propose):
    archive, first, second = contested
    assert archive.best().hash == second
    measure(archive, propose, 2, second, -1.0)
    assert archive.best().hash == first
    assert [elite.hash for elite in archive.elites()] == [first]
    assert archive.undone() == 1


def test_who_was_displaced_unjustly_can_be_displaced_again(contested, propose):
    archive, first, second = contested
    measure(archive, propose, 2, second, -1.0)  # a mean of 0.5
    measure(archive, propose, 3, first, -2.0)  # a mean of -0.5
    assert archive.best().hash == second
    assert archive.undone() == 2


def test_a_promotion_that_holds_stays(contested, propose):
    archive, _, second = contested
    measure(archive, propose, 2, second, 1.9)
    assert archive.best().hash == second
    assert archive.undone() == 0


def test_a_measurement_that_fails_changes_no_score(contested, propose):
    archive, _, second = contested
    measure(archive, propose, 2, second, None)
    assert (archive.best().hash, archive.best().score) == (second, 2.0)
    assert archive.samples(second, "search")[0].failure == "timeout"


def test_all_of_it_is_there_when_the_archive_is_opened_again(contested, propose, url):
    archive, _, second = contested
    measure(archive, propose, 2, second, -1.0)
    again = Archive.open(url)
    assert again.holders() == archive.holders()
    assert again.content_hash() == archive.content_hash()


def test_measurements_are_in_the_content_hash(contested, propose):
    archive, _, second = contested
    before = archive.content_hash()
    measure(archive, propose, 2, second, 1.9)
    assert archive.content_hash() != before


def test_a_measurement_counts_as_an_evaluation_and_is_no_duplicate(contested, propose):
    archive, _, second = contested
    measure(archive, propose, 2, second, 1.9)
    assert (archive.completed(), archive.duplicates()) == (3, 0)


def test_a_duplicate_may_bring_a_measurement_of_whom_it_repeats(contested, propose, evaluate):
    archive, _, second = contested
    archive.add_proposal(propose(2))
    sample = SampleRecord(second, "search", "v1", 2, 1.0)
    archive.add_evaluation(2, evaluate(2.0, noisy=True, duplicate_of=second), sample=sample)
    assert archive.duplicates() == 1
    assert archive.best().score == 1.5


def test_an_elite_that_migrated_is_restated_on_every_island(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0, noisy=True), islands=(0, 1))
    measure(archive, propose, 1, hash, 0.0)
    assert [elite.score for elite in archive.elites()] == [0.5, 0.5]


def test_a_second_measurement_of_one_number_is_refused(contested):
    archive, _, second = contested
    archive.add_sample(SampleRecord(second, "validation", "v1", 1, 1.0))
    with pytest.raises(ValueError, match="measurement 1 of validation already"):
        archive.add_sample(SampleRecord(second, "validation", "v1", 1, 1.0))


def test_a_measurement_that_is_no_number_is_refused(contested):
    archive, _, second = contested
    with pytest.raises(ValueError, match="finite"):
        archive.add_sample(SampleRecord(second, "validation", "v1", 1, math.nan))


def test_later_measurements_never_touch_the_grid(contested):
    archive, _, second = contested
    archive.add_sample(SampleRecord(second, "validation", "v1", 1, -9.0))
    assert (archive.best().hash, archive.best().score) == (second, 2.0)


def test_requests_come_back_as_they_were_noted(contested, propose, evaluate):
    archive, first, second = contested
    noted = [RequestRecord(4, (first, second), True, False), RequestRecord(5, (second,), False, True)]
    archive.add_proposal(propose(2))
    archive.add_evaluation(2, evaluate(None), requests=noted)
    assert archive.requests(4) == noted
    assert archive.requests(5) == noted[1:]
