"""What choices cost, against the reference; and the optimum, which nothing passes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.evaluation import CandidateError
from evaluators.spot_scheduling import reference
from evaluators.spot_scheduling.optimum import smallest_costs
from evaluators.spot_scheduling.play import Run, Schedule
from evaluators.spot_scheduling.workloads import STEP, Job, Market, cases


@st.composite
def markets(draw):
    """A small market with any availability and prices, and any choices for it."""
    traces, regions = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    work, restart = draw(st.integers(1, 30)), draw(st.integers(0, STEP))
    steps = -(-(work + restart) // STEP) + draw(st.integers(0, 4))
    job = Job(work, steps, restart, draw(st.integers(restart, STEP)), 300)
    random = np.random.Generator(np.random.Philox(draw(st.integers(0, 2**32))))
    shape = (steps, traces, regions)
    available = random.uniform(size=shape) < draw(st.floats(0, 1))
    market = Market(job, available, random.integers(1, 400, shape))
    return market, random.integers(-1, regions + 1, (steps, traces))


def played(market: Market, choices: np.ndarray) -> Schedule:
    """A schedule at its end."""
    schedule = market.play()
    for choice in choices:
        if not schedule.is_done:
            schedule.answer("step", {"choice": choice})
    return schedule


def costs(schedule: Schedule) -> list[int]:
    return [run.cost for run in schedule.runs]


def trace_of(market: Market, number: int) -> reference.Trace:
    return reference.Trace(market.available[:, number].tolist(), market.price[:, number].tolist())


@given(markets())
@settings(max_examples=300, deadline=None)
def test_cost_is_that_of_the_reference_and_no_job_is_ever_late(drawn):
    market, choices = drawn
    schedule = played(market, choices)
    assert schedule.is_done
    for number, cost in enumerate(costs(schedule)):
        assert cost == reference.cost(market.job, trace_of(market, number), choices[:, number].tolist())


@given(markets())
@settings(max_examples=150, deadline=None)
def test_optimum_is_that_of_trying_all_choices_and_nothing_costs_less(drawn):
    market, choices = drawn
    found = smallest_costs(market)
    assert (found <= costs(played(market, choices))).all()
    for number, cost in enumerate(found):
        assert cost == reference.optimum(market.job, trace_of(market, number))


def test_figures_of_the_search_are_those_of_the_reference():
    """One trace of the real workload: the optimum of a small one is no proof for it."""
    market = cases("search")[1]
    assert market.optimum[0] == reference.optimum(market.job, trace_of(market, 0))


def test_deadline_rule_starts_on_demand_at_the_last_safe_moment():
    job = Job(work=2 * STEP - 1, steps=4, restart=1, migration=1, on_demand=300)
    market = Market(job, np.zeros((4, 1, 1), np.bool_), np.full((4, 1, 1), 100))
    schedule = market.play()
    places = []
    for _ in range(4):
        schedule.advance(np.array([-1]))
        places.append(schedule.runs[0].place)
    assert places == [-1, -1, 1, 1]
    assert schedule.runs[0].cost == 300 * 2 * STEP  # the start is paid for, too


def test_region_without_capacity_gives_nothing_and_costs_nothing():
    job = Job(work=STEP, steps=9, restart=1, migration=1, on_demand=300)
    market = Market(job, np.zeros((9, 1, 1), np.bool_), np.full((9, 1, 1), 100))
    schedule = market.play()
    schedule.advance(np.array([0]))
    assert schedule.runs == [Run(remaining=STEP)]


def test_move_to_another_region_costs_the_migration_and_the_way_back_too():
    job = Job(work=3 * STEP, steps=20, restart=1, migration=4, on_demand=300)
    market = Market(job, np.ones((20, 1, 2), np.bool_), np.full((20, 1, 2), 100))
    schedule = market.play()
    done = []
    for choice in (0, 0, 1, 0):
        before = schedule.runs[0].remaining
        schedule.advance(np.array([choice]))
        done.append(before - schedule.runs[0].remaining)
    assert done == [STEP - 1, STEP, STEP - 4, STEP - 4]


def test_future_is_not_told():
    market = cases("probe")[0]
    schedule = market.play()
    told = schedule.told()
    assert np.array_equal(told["available"], market.available[0])
    assert all(array.ndim < 3 for array in told.values())


def test_candidate_cannot_end_a_case_early_or_report_other_choices():
    market = cases("probe")[0]
    steps, traces, regions = market.available.shape
    with pytest.raises(CandidateError, match="out of turn"):
        market.play().measured({"choices": np.full((1, traces), -1)})
    schedule = played(market, np.full((steps, traces), regions))
    with pytest.raises(CandidateError, match="out of turn"):
        schedule.measured({"choices": np.full((schedule.step, traces), -1)})
    with pytest.raises(CandidateError, match="out of turn"):
        schedule.answer("step", {"choice": np.full(traces, -1)})
