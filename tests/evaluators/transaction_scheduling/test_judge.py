"""What an order is worth, against the reference and against the rules."""

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.evaluation import CandidateError
from evaluators.program import load
from evaluators.transaction_scheduling import reference, workloads
from evaluators.transaction_scheduling.problem import PROBLEM
from evaluators.transaction_scheduling.search import Timeline, improved, search
from evaluators.transaction_scheduling.workloads import STAGES, batch, cases
from sandbox.screen import screen
from tests.evaluators.cases.stages import run

READ, WRITE = False, True
OPERATION = st.tuples(st.integers(0, 3), st.booleans())


@st.composite
def batches(draw, most=7):
    """A few short transactions on a few keys, some of which they touch twice, and an order of them."""
    transactions = draw(st.lists(st.lists(OPERATION, min_size=1, max_size=5), min_size=1, max_size=most))
    return transactions, draw(st.permutations(range(len(transactions))))


@given(batches())
@settings(max_examples=300, deadline=None)
def test_judge_search_and_start_agree_with_the_reference_on_any_order(drawn):
    transactions, order = drawn
    expected = reference.makespan(order, transactions)
    made = batch(transactions)
    makespan, starts = made.played(np.array(order))
    assert makespan == expected
    assert made.transactions == transactions
    assert max(start + len(one) for start, one in zip(starts, transactions, strict=True)) == expected
    assert Timeline(transactions).makespan(order) == expected
    start = next(seed for seed in PROBLEM.seeds() if seed.name == "start")
    assert load(start.source, PROBLEM.language)["makespan"](order, made.keys, made.writes) == expected


@given(batches(most=5))
@settings(max_examples=150, deadline=None)
def test_bound_is_below_every_order_and_search_finds_the_best(drawn):
    transactions, order = drawn
    every = [reference.makespan(one, transactions) for one in permutations(range(len(transactions)))]
    assert reference.bound(transactions) <= min(every)
    assert search(transactions, order, 2_000, seed=1)[0] == min(every)


def test_conflicts_by_hand():
    late, early = [(0, READ), (1, READ), (2, WRITE)], [(2, WRITE), (0, READ), (3, READ)]
    # Key 2 first at 0, then at 2: both can start at 0. The other way round, the second one starts at 3.
    assert reference.makespan([1, 0], [late, early]) == 3
    assert reference.makespan([0, 1], [late, early]) == 6
    # Reads of one key do not wait for each other.
    assert reference.makespan([0, 1, 2], [[(0, READ)], [(0, READ)], [(0, WRITE)]]) == 2


@pytest.mark.parametrize("stage", STAGES)
def test_best_known_orders_have_the_makespans_that_are_claimed(stage):
    known = json.loads(reference.BEST_KNOWN.read_text(encoding="utf-8"))
    for case in cases(stage):
        entry = known[case.content]
        assert sorted(entry["order"]) == list(range(len(case.keys)))
        assert reference.makespan(entry["order"], case.transactions) == entry["makespan"] == case.best_known
        assert case.bound <= entry["makespan"]
        assert case.measured({"order": np.array(entry["order"])}).figure == 1


def test_best_known_orders_that_meet_the_bound_are_found_again():
    proved = [case for case in cases("search") if case.best_known == case.bound]
    assert len(proved) >= 4
    for case in proved:
        assert search(case.transactions, range(len(case.keys)), 30_000, seed=7)[0] == case.bound


def test_a_short_search_from_nothing_finds_the_best_known_orders_of_small_batches():
    for content, entry in improved("probe", {}, 5_000, seed=3):
        assert entry["makespan"] == workloads.best_known()[content]


def test_a_known_order_stays_where_nothing_better_is_found():
    known = json.loads(reference.BEST_KNOWN.read_text(encoding="utf-8"))
    for content, entry in improved("search", known, 1, seed=1):
        assert entry["makespan"] == known[content]["makespan"]


@pytest.mark.parametrize("stage", ["search", "validation", "holdout"])
def test_seeds_score_in_order(play, sources, stage):
    score = {name: play(source, stage)["score"] for name, source in sources.items()}
    assert score["start"] < score["smf"] < score["earliest_start"] < score["best_known"] == 1


def test_seeds_pass_the_screen():
    for seed in PROBLEM.seeds():
        assert screen(seed.source, PROBLEM.language) == []


def test_smf_takes_next_what_adds_least_to_the_makespan(sources):
    schedule = load(sources["smf"], PROBLEM.language)["schedule"]
    for case in cases("probe"):  # so few that the sample is all that wait
        order = schedule(case.keys, case.writes)
        for place, chosen in enumerate(order):
            after = {
                one: reference.makespan([*order[:place], one], case.transactions) for one in order[place:]
            }
            assert after[chosen] == min(after.values())


def test_earliest_start_never_lets_a_transaction_wait_that_could_start_before_the_next(sources):
    schedule = load(sources["earliest_start"], PROBLEM.language)["schedule"]
    for case in cases("probe"):
        order = schedule(case.keys, case.writes)
        _, starts = case.played(np.array(order))
        for place in range(len(order) - 1):
            swapped = [*order[:place], order[place + 1], order[place], *order[place + 2 :]]
            assert case.played(np.array(swapped))[1][order[place + 1]] >= starts[order[place]]


def test_stages_have_batches_of_their_own_and_the_same_at_every_call():
    splits = PROBLEM.inputs(None).splits
    assert len(set(splits.values())) == len(STAGES)
    assert PROBLEM.inputs(None).splits == splits


ALL = "np.arange(len(keys))"


@pytest.mark.parametrize(
    ("returned", "kind", "says"),
    [
        (f"np.maximum({ALL}, 1)", "invalid_output", "exactly once"),
        (f"{ALL} - 1", "invalid_output", "has to lie in 0"),
        (f"{ALL} + 1", "invalid_output", "has to lie in 0"),
        (f"{ALL} * 1.0", "invalid_output", "whole numbers"),
        (f"{ALL} * np.nan", "invalid_output", "whole numbers"),
        (f"({ALL})[:-1]", "invalid_output", "whole numbers"),
        ("[*range(len(keys)), 0]", "invalid_output", "whole numbers"),
        ("[]", "invalid_output", "whole numbers"),
        ("[[0, 1], [0]]", "interface", "rectangular"),
        ("None", "interface", "array of numbers"),
        # The hole of a published evaluator: the makespan came from the candidate, with no schedule at all.
        ("(0, [[], [], []])", "interface", "rectangular"),
        ("0", "invalid_output", "whole numbers"),
    ],
)
def test_invalid_orders_are_labelled_failures(play, returned, kind, says):
    source = f"import numpy as np\n\n\ndef schedule(keys, writes):\n    return {returned}\n"
    with pytest.raises(CandidateError, match=says) as error:
        play(source)
    assert error.value.failure_kind == kind


def test_arguments_are_copies_that_a_candidate_cannot_lighten(play, sources):
    lighter = sources["smf"].replace("    return order", "    keys[:] = -1\n    return order")
    assert lighter != sources["smf"]
    assert play(lighter, "search")["score"] == play(sources["smf"], "search")["score"]


def test_a_better_order_than_the_best_known_scores_above_one(monkeypatch):
    case = cases("probe")[0]
    order = search(case.transactions, range(len(case.keys)), 3_000, seed=1)[1]
    monkeypatch.setattr(workloads, "best_known", lambda: {case.content: case.played(np.array(order))[0] + 1})
    assert case.measured({"order": np.array(order)}).figure > 1


def test_candidates_score_in_the_sandbox_as_here(play, sources):
    value = run(PROBLEM, sources["smf"], "search").value
    assert value is not None
    assert value["score"] == play(sources["smf"], "search")["score"]
    assert run(PROBLEM, sources["best_known"] + "# mine\n", "search").value["score"] < 0.9


def test_example_of_the_interface_runs_and_passes_the_screen(play):
    example = PROBLEM.interface.split("```python\n")[2].partition("```")[0]
    assert screen(example, PROBLEM.language) == []
    assert 0 < play(example, "search")["score"] < 1
