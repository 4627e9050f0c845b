"""What a run may spend, and how it ends."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.evolve.arithmetic import SEEDS, Pace, PayingProposer, Run

TRIED = (Phase.explicit, Phase.generate)  # each example is whole runs: shrinking one would take minutes


def stop_events(run: Run) -> list[str]:
    return [event.text for event in run.archive.events() if event.kind == "stop"]


@settings(max_examples=12, deadline=None, phases=TRIED)
@given(
    seed=st.integers(0, 1000),
    slowest=st.integers(0, 60),
    look_ahead=st.integers(1, 32),
    limit=st.floats(0.05, 3.0),
)
def test_a_cost_limit_is_never_overshot(seed, slowest, look_ahead, limit):
    with TemporaryDirectory() as folder:
        run, pace = Run(Path(folder), max_cost=limit, look_ahead=look_ahead), Pace(seed, slowest)
        run.work(pace, PayingProposer(pace, usd=0.1))
        assert run.archive.cost().usd <= limit


@settings(max_examples=12, deadline=None, phases=TRIED)
@given(seed=st.integers(0, 1000), slowest=st.integers(0, 60), limit=st.floats(0.5, 0.9))
def test_a_cost_limit_is_used_as_far_as_calls_fit(seed, slowest, limit):
    with TemporaryDirectory() as folder:
        run, pace = Run(Path(folder), max_cost=limit), Pace(seed, slowest)
        reason = run.work(pace, PayingProposer(pace, usd=0.1))
        assert run.archive.cost().usd > limit - 0.1
        assert "USD are spent" in reason


def test_a_call_that_costs_exactly_what_is_left_is_made(tmp_path):
    run = Run(tmp_path, max_cost=1.0)
    run.work(proposer=PayingProposer(Pace(), usd=0.1, whole=True))
    assert run.archive.cost().usd == pytest.approx(1.0)


def test_a_token_limit_is_kept_with_many_calls_under_way(tmp_path):
    run, pace = Run(tmp_path, max_tokens=9_999, look_ahead=32), Pace(2, 50)
    reason = run.work(pace, PayingProposer(pace, tokens=1_000, whole=True))
    assert run.archive.cost().tokens_in == 9_000
    assert reason == "9,000 of 9,999 tokens are spent, and one more proposal may take 1,000."


def test_a_limit_below_one_call_asks_for_nothing(tmp_path):
    run, proposer = Run(tmp_path, max_cost=0.05), PayingProposer(Pace(), usd=0.1)
    run.work(proposer=proposer)
    assert proposer.calls == []
    assert run.archive.completed() == SEEDS


@settings(max_examples=5, deadline=None, phases=TRIED)
@given(seed=st.integers(0, 1000), slowest=st.integers(0, 60))
@pytest.mark.parametrize(
    "limit",
    [{"max_cost": 1.0}, {"max_tokens": 9_000}, {"target_score": 2.0}, {"stagnation": 1}],
    ids=lambda limit: next(iter(limit)),
)
def test_a_run_that_reached_a_limit_goes_on_as_if_it_had_been_larger(limit, seed, slowest):
    def work(run: Run, pace: Pace, **changed: object) -> str | None:
        return run.work(pace, PayingProposer(pace, tokens=1_000, usd=0.1), **changed)

    larger = {"max_cost": 50.0, "max_tokens": 90_000, "target_score": 99.0, "stagnation": 99}
    with TemporaryDirectory() as folder:
        at_once, later = Run(Path(folder) / "a"), Run(Path(folder) / "b", **limit)
        work(at_once, Pace())
        first = work(later, Pace(seed, slowest))
        stopped_at = later.archive.completed()
        second = work(later, Pace(seed, slowest), **{name: larger[name] for name in limit})
        assert SEEDS < stopped_at < 40
        assert "evaluations are made" not in first
        assert second == "All 40 evaluations are made."
        assert later.archive.content_hash() == at_once.archive.content_hash()


@settings(max_examples=8, deadline=None, phases=TRIED)
@example(seed=5, slowest=40, turns=120)  # the target is reached while drafts are under way
@given(seed=st.integers(0, 1000), slowest=st.integers(0, 60), turns=st.integers(0, 300))
@pytest.mark.parametrize(
    "limit", [{"target_score": 2.0}, {"stagnation": 1}], ids=lambda limit: next(iter(limit))
)
def test_a_killed_run_ends_where_the_undisturbed_one_does(limit, seed, slowest, turns):
    with TemporaryDirectory() as folder:
        undisturbed, killed = Run(Path(folder) / "a", **limit), Run(Path(folder) / "b", **limit)
        undisturbed.work()
        killed.work(Pace(seed, slowest), killed_after=turns)
        killed.work(Pace(seed, slowest))
        assert killed.archive.content_hash() == undisturbed.archive.content_hash()


def test_what_is_under_way_at_a_stop_is_finished_and_kept(tmp_path):
    run, pace = Run(tmp_path, target_score=0.0), Pace(1, 40)
    proposer = PayingProposer(pace)
    run.work(pace, proposer)
    assert run.archive.pending() == []
    assert run.archive.completed() == SEEDS + len(proposer.calls)


def test_a_run_without_finds_ends(tmp_path):
    run = Run(tmp_path, strategy="best_of_n", stagnation=2, max_evaluations=400)
    reason = run.work()
    assert reason == "No new best and no new cell in 2 evaluations."


def test_time_that_is_over_ends_a_run_in_one_sentence(tmp_path):
    run = Run(tmp_path, max_minutes=1e-9)
    assert run.work() == "1e-09 minutes are over."


def test_the_reason_of_the_end_is_noted(tmp_path):
    run = Run(tmp_path)
    assert [run.work()] == stop_events(run) == ["All 40 evaluations are made."]
