"""What is put into an archive comes out of it, and the answers about it are right."""

import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from database.archive import Archive
from database.records import (
    Axis,
    Cost,
    Elite,
    EvaluationRecord,
    OperatorCount,
    Placement,
    ProposalRecord,
    RunRecord,
    candidate_hash,
)
from kvolve import KvolveError

FULL_PROPOSAL = ProposalRecord(0, 1, "diff", (), "y = 'ü'\n", "block 2")
FULL_EVALUATION = EvaluationRecord(
    stage="search",
    split="v1",
    score=-0.25,
    message="m",
    feedback="f €",
    behaviour="b",
    metrics={"error": 1e-300, "ratio": math.inf},
    descriptors={"index_share": 0.1, "locality": 0.9},
    samples=b"\x00\xff",
    wall_s=0.125,
)


def test_run_comes_back_as_it_was(archive, url, run):
    assert Archive.open(url).run == run == archive.run


def test_pending_proposal_comes_back_as_it_was(archive, propose):
    archive.add_proposal(propose(7, "seed"))
    child = replace(FULL_PROPOSAL, number=9, parents=(candidate_hash("seed"), candidate_hash("seed")))
    archive.add_proposal(child)
    assert archive.pending() == [propose(7, "seed"), child]


def test_half_a_surrogate_pair_survives(archive, propose, evaluate):
    given = propose(0, "x = '\ud800'")
    hash = archive.add_proposal(given)
    archive.add_evaluation(0, evaluate(None, message="\ud802"))
    assert archive.candidate(hash).proposal == given
    assert archive.find_source(hash).message == "\ud802"


def test_text_that_a_database_cannot_store_is_marked(archive, propose, evaluate):
    strange, marked = "a\0b\ud800€", "a\ufffdb\ufffd€"
    hash = archive.add_proposal(propose(0, detail=strange, operator=strange))
    archive.add_evaluation(0, evaluate(1.0, metrics={strange: 1.0}))
    archive.add_event(strange, strange)
    proposal = archive.candidate(hash).proposal
    assert (proposal.detail, proposal.operator) == (marked, marked)
    assert archive.evaluation(hash, "search").metrics == {marked: 1.0}
    assert (archive.events()[-1].kind, archive.events()[-1].text) == (marked, marked)


def test_evaluation_comes_back_as_it_was(archive):
    hash = archive.add_proposal(FULL_PROPOSAL)
    archive.add_evaluation(0, FULL_EVALUATION)
    assert archive.evaluation(hash, "search") == FULL_EVALUATION


def test_metric_may_be_nan(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0, metrics={"undefined": math.nan}))
    assert math.isnan(archive.evaluation(hash, "search").metrics["undefined"])


def test_numpy_floats_are_stored_as_floats(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(np.float32(0.5), metrics={"error": np.float32(0.25)}))
    assert archive.leaderboard(1)[0].score == archive.best().score == 0.5
    assert archive.evaluation(hash, "search").metrics == {"error": 0.25}


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_score_that_is_not_finite_is_refused(archive, propose, evaluate, score):
    archive.add_proposal(propose(0))
    with pytest.raises(ValueError, match="finite"):
        archive.add_evaluation(0, evaluate(score))
    assert len(archive.pending()) == 1


def test_evaluation_with_neither_score_nor_failure_is_refused(archive, propose):
    archive.add_proposal(propose(0))
    with pytest.raises(ValueError, match="either a score or a failure"):
        archive.add_evaluation(0, EvaluationRecord("search", "v1"))


def test_candidate_is_found_by_the_start_of_its_hash(archive):
    hash = archive.add_proposal(FULL_PROPOSAL)
    archive.add_evaluation(0, FULL_EVALUATION)
    found = archive.candidate(hash[:6].upper())
    assert (found.hash, found.proposal, found.evaluation) == (hash, FULL_PROPOSAL, FULL_EVALUATION)
    assert found.source == FULL_PROPOSAL.source


@pytest.mark.parametrize("prefix", ["", "abc", "nothex", "0000", "%%%%"])
def test_prefix_that_names_no_candidate_is_refused(archive, propose, prefix):
    archive.add_proposal(propose(0))
    with pytest.raises(KvolveError):
        archive.candidate(prefix)


def test_ambiguous_prefix_is_refused_and_the_choices_are_named(archive, propose):
    first: dict[str, str] = {}
    for number in range(2000):  # 65,536 prefixes of four digits: some two of these sources share one
        source = f"x = {number}"
        hash = candidate_hash(source)
        if other := first.get(hash[:4]):
            break
        first[hash[:4]] = source
    archive.add_proposal(propose(0, other))
    archive.add_proposal(propose(1, source))
    with pytest.raises(KvolveError, match=f"Several candidates.*{hash[:8]}"):
        archive.candidate(hash[:4])


def test_numbers_go_on_after_the_highest(archive, propose):
    assert archive.next_number() == 0
    archive.add_proposal(propose(4))
    assert archive.next_number() == 5


def test_number_that_is_taken_is_refused(archive, propose):
    archive.add_proposal(propose(0))
    with pytest.raises(ValueError, match="stored already"):
        archive.add_proposal(propose(0, "other"))


def test_unknown_parent_is_refused_and_nothing_is_stored(archive, propose):
    with pytest.raises(ValueError, match="no candidate"):
        archive.add_proposal(propose(0, parents=("0" * 64,)))
    assert archive.next_number() == 0


def test_proposal_is_completed_once(archive, propose, evaluate):
    archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    with pytest.raises(ValueError, match="not pending"):
        archive.add_evaluation(0, evaluate(2.0))
    assert archive.completed() == 1


def test_placements_are_reported(archive, propose, evaluate):
    placements = []
    for number, (score, share) in enumerate([(1.0, 0.1), (0.5, 0.1), (2.0, 0.1), (0.0, 0.9)]):
        archive.add_proposal(propose(number))
        placements.append(archive.add_evaluation(number, evaluate(score, share)))
    new, improved, rejected = Placement.NEW_CELL, Placement.IMPROVED, Placement.REJECTED
    assert placements == [new, rejected, improved, new]


def test_seed_enters_the_islands_that_are_named(archive, propose, evaluate):
    archive.add_proposal(propose(0, operator="seed"))
    archive.add_evaluation(0, evaluate(1.0), islands=(0, 1))
    assert [elite.island for elite in archive.elites()] == [0, 1]


def test_bound_stays_outside_the_grid_and_the_leaderboard(archive, propose, evaluate):
    archive.add_proposal(propose(0, operator="bound"))
    archive.add_proposal(propose(1))
    assert archive.add_evaluation(0, evaluate(9.0), enter_grid=False) is None
    archive.add_evaluation(1, evaluate(1.0))
    assert [line.number for line in archive.leaderboard(9)] == [1]
    assert [line.score for line in archive.leaderboard(9, operator="bound")] == [9.0]
    assert archive.best().number == 1
    assert archive.history() == [None, 1.0]


def test_failure_stays_outside_the_grid_and_is_counted(archive, propose, evaluate):
    for number, failure in enumerate(["timeout", "crash", "crash"]):
        archive.add_proposal(propose(number))
        archive.add_evaluation(number, EvaluationRecord("probe", "v1", failure=failure))
    assert archive.failures() == {"crash": 2, "timeout": 1}
    assert archive.elites() == []
    assert archive.best() is None


def test_equal_source_is_stored_once_and_counts_as_duplicate(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0, "same"))
    archive.add_evaluation(0, evaluate(1.0))
    known = archive.find_source(hash)
    assert archive.add_proposal(propose(1, "same")) == hash
    assert archive.add_evaluation(1, replace(known, duplicate_of=hash)) is None
    assert archive.duplicates() == 1
    assert [line.number for line in archive.leaderboard(9)] == [0]


def test_equal_sources_in_flight_keep_the_first_result(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0, "same"))
    archive.add_proposal(propose(1, "same"))
    archive.add_evaluation(0, evaluate(1.0))
    assert archive.add_evaluation(1, evaluate(5.0)) is None
    assert archive.find_source(hash).score == 1.0
    assert (archive.duplicates(), archive.completed()) == (1, 2)


def test_source_that_waits_for_its_evaluation_is_not_known_yet(archive, propose):
    assert archive.find_source(archive.add_proposal(propose(0))) is None


def test_behaviour_is_known_from_its_first_scored_candidate(archive, propose, evaluate):
    hashes = [archive.add_proposal(propose(number)) for number in range(4)]
    archive.add_evaluation(0, evaluate(None, behaviour="b"))
    archive.add_evaluation(1, evaluate(1.0, behaviour="b"))
    archive.add_evaluation(2, evaluate(1.0, behaviour="b", duplicate_of=hashes[1]))
    archive.add_evaluation(3, evaluate(2.0, behaviour="b"))
    known = archive.find_behaviour("b", "search")
    assert (known.hash, known.evaluation.score) == (hashes[1], 1.0)
    assert archive.find_behaviour("b", "probe") is None
    assert archive.find_behaviour("other", "search") is None


def test_behavioural_duplicate_stays_outside_the_grid(archive, propose, evaluate):
    hashes = [archive.add_proposal(propose(number)) for number in range(2)]
    archive.add_evaluation(0, evaluate(1.0, behaviour="b"))
    assert archive.add_evaluation(1, evaluate(1.0, 0.9, behaviour="b", duplicate_of=hashes[0])) is None
    assert archive.evaluation(hashes[1], "search").duplicate_of == hashes[0]
    assert (archive.duplicates(), len(archive.elites())) == (1, 1)


def test_validation_never_touches_grid_or_leaderboard(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0))
    archive.add_evaluation(0, evaluate(1.0))
    elites, line = archive.elites(), archive.leaderboard(9)
    archive.add_validation(hash, evaluate(7.0, stage="validation"))
    assert (archive.elites(), archive.leaderboard(9), archive.completed()) == (elites, line, 1)
    assert archive.evaluation(hash, "validation").score == 7.0
    assert archive.find_source(hash).score == 1.0


def test_holdout_is_opened_once_and_logged(archive, propose, evaluate):
    hash = archive.add_proposal(propose(0))
    archive.add_validation(hash, evaluate(7.0, stage="holdout"))
    with pytest.raises(ValueError, match="already"):
        archive.add_validation(hash, evaluate(8.0, stage="holdout"))
    assert [event.kind for event in archive.events()] == ["holdout"]


def test_lineage_follows_the_main_parent_to_the_seed(archive, propose, evaluate):
    seed = archive.add_proposal(propose(0, operator="seed"))
    other = archive.add_proposal(propose(1, operator="seed"))
    child = archive.add_proposal(propose(2, parents=(seed, other)))
    grandchild = archive.add_proposal(propose(3, parents=(child,)))
    archive.add_evaluation(0, evaluate(0.5))
    line = archive.lineage(grandchild)
    assert [(entry.hash, entry.number, entry.operator) for entry in line] == [
        (grandchild, 3, "tune"),
        (child, 2, "tune"),
        (seed, 0, "seed"),
    ]
    assert [entry.score for entry in line] == [None, None, 0.5]


def test_lineage_of_a_source_found_again_among_its_descendants_ends(archive, propose):
    late = archive.add_proposal(propose(5, "late"))
    child = archive.add_proposal(propose(4, "child", parents=(late,)))
    archive.add_proposal(propose(3, "late", parents=(child,)))
    assert [entry.hash for entry in archive.lineage(child)] == [child, late]


def test_leaderboard_is_by_score_and_then_by_age(archive, propose, evaluate):
    for number, score in enumerate([1.0, 3.0, 3.0, 2.0]):
        archive.add_proposal(propose(number))
        archive.add_evaluation(number, evaluate(score))
    assert [line.number for line in archive.leaderboard(3)] == [1, 2, 3]


def test_history_follows_the_order_of_completion(archive, propose, evaluate):
    for number in range(4):
        archive.add_proposal(propose(number))
    for number, score in [(2, None), (0, 1.0), (3, 0.5), (1, 2.0)]:
        archive.add_evaluation(number, evaluate(score))
    assert archive.history() == [None, 1.0, 1.0, 2.0]


def test_coverage_and_qd_score_look_at_the_best_of_all_islands(archive, propose, evaluate):
    for number, (island, score, share) in enumerate([(0, 1.0, 0.1), (1, 3.0, 0.1), (1, 0.5, 0.9)]):
        archive.add_proposal(propose(number, island=island))
        archive.add_evaluation(number, evaluate(score, share))
    assert archive.coverage() == 2 / 16
    assert archive.qd_score() == 3.5


def test_operators_are_counted(archive, propose, evaluate):
    for number, (operator, score) in enumerate([("tune", 1.0), ("tune", 0.5), ("diff", None)]):
        archive.add_proposal(propose(number, operator=operator))
        archive.add_evaluation(number, evaluate(score))
    assert archive.operator_counts() == {"diff": OperatorCount(1, 0, 0), "tune": OperatorCount(2, 2, 1)}


def test_empty_archive_has_answers(archive):
    assert (archive.cost(), archive.history(), archive.leaderboard(3)) == (Cost(0, 0, 0.0), [], [])
    assert (archive.coverage(), archive.qd_score(), archive.completed()) == (0.0, 0.0, 0)


def test_events_keep_their_order_and_time(archive):
    archive.add_event("start", "run begins")
    archive.add_event("stop", "budget spent")
    events = archive.events()
    assert [(event.kind, event.text) for event in events] == [
        ("start", "run begins"),
        ("stop", "budget spent"),
    ]
    assert 0 < events[0].at <= events[1].at


def test_migration_happens_after_every_interval(url, run, propose, evaluate):
    archive = Archive.create(url, replace(run, migration_interval=2))
    sizes = []
    for number in range(4):
        archive.add_proposal(propose(number))
        archive.add_evaluation(number, evaluate(1.0, number / 4))
        sizes.append(len(archive.elites(1)))
    assert sizes == [0, 2, 2, 4]


def test_failed_transaction_leaves_grid_and_pending_as_they_were(archive, propose, evaluate):
    archive.add_proposal(propose(0))
    with pytest.raises(ValueError, match="no candidate"):
        archive.add_evaluation(0, evaluate(1.0, duplicate_of="0" * 64))
    with pytest.raises(IndexError):  # island 5 does not exist: island 0 has been filled by then
        archive.add_evaluation(0, evaluate(1.0), islands=(0, 5))
    assert archive.elites() == []
    assert archive.add_evaluation(0, evaluate(1.0)) is Placement.NEW_CELL


def test_read_only_archive_refuses_changes(archive, url, propose):
    with pytest.raises(ValueError, match="read-only"):
        Archive.open(url, read_only=True).add_proposal(propose(0))


OFFER = st.tuples(st.integers(0, 2), st.integers(-3, 3) | st.none(), st.sampled_from([0.1, 0.4, 0.6, 0.9]))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OFFER, max_size=25))
def test_grid_that_is_read_back_equals_the_grid_that_lived(new_url, offers):
    url = new_url()
    run = RunRecord("p", "{}", 1, (Axis("a", 0, 1, 4),), 3, 4, "0.1.0")
    with closing(Archive.create(url, run)) as archive:
        for number, (island, score, share) in enumerate(offers):
            archive.add_proposal(ProposalRecord(number, island, "tune", (), str(number)))
            failure = "crash" if score is None else None
            archive.add_evaluation(
                number, EvaluationRecord("search", "v", score, failure, descriptors={"a": share})
            )
    with closing(Archive.open(url)) as again:
        assert again.elites() == archive.elites()
        assert again.best() == archive.best()
        assert again.completed() == len(offers)
        candidates = {candidate_hash(str(number)) for number in range(len(offers))}
        assert {elite.hash for elite in again.elites()} <= candidates  # migrants are no new candidates
        if again.elites(0):
            assert isinstance(again.sample_elite(0, lambda count: count - 1), Elite)
