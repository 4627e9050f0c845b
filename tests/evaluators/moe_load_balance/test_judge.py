"""What a placement is worth, against the reference and against the rules."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.cases.splits import inputs_of
from evaluators.evaluation import CandidateError
from evaluators.moe_load_balance import reference
from evaluators.moe_load_balance.problem import PROBLEM
from evaluators.moe_load_balance.workloads import STAGES, Placing, cases, replicas
from evaluators.program import load
from sandbox.screen import screen


@st.composite
def placings(draw):
    """A small case with any loads, and a valid mapping for it."""
    layers, experts = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    gpus, slots_per_gpu = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    slots = gpus * slots_per_gpu
    experts = min(experts, slots)
    counts = st.lists(st.integers(1, 1000), min_size=experts, max_size=experts)
    following = np.array(draw(st.lists(counts, min_size=layers, max_size=layers)))
    spare = st.lists(st.integers(0, experts - 1), min_size=slots - experts, max_size=slots - experts)
    rows = [draw(st.permutations([*range(experts), *draw(spare)])) for _ in range(layers)]
    return Placing(following[None], following, gpus, slots_per_gpu), np.array(rows)


@given(placings())
@settings(max_examples=200, deadline=None)
def test_judge_agrees_with_the_reference_and_the_bound_is_never_passed(drawn):
    case, phy2log = drawn
    slots = phy2log.shape[1]
    for layer, found in enumerate(case.balance(phy2log, case.following)):
        loads = case.following[layer].tolist()
        exact = reference.balance(phy2log[layer].tolist(), loads, case.gpus)
        assert found == pytest.approx(float(exact), rel=1e-12)
        assert found <= reference.bound(loads, case.gpus, slots) * (1 + 1e-12)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_greedy_share_of_the_bound_is_the_smallest_there_is(loads, spare):
    slots = len(loads) + spare

    def fits(share: Fraction) -> bool:
        return sum(-(-load // share) for load in loads) <= slots

    smallest = min(s for load in loads for n in range(1, slots + 1) if fits(s := Fraction(load, n)))
    # With one GPU for each slot, the mean is the smaller of the two terms: the share alone decides.
    assert reference.bound(loads, slots, slots) == pytest.approx(
        float(Fraction(sum(loads), slots) / smallest)
    )


def test_bound_is_below_one_where_one_expert_has_nearly_all_the_load():
    assert reference.bound([97, 1, 1, 1], 4, 5) == pytest.approx(25 / 48.5)


@pytest.mark.parametrize("stage", STAGES)
def test_seeds_score_in_order(play, sources, stage):
    score = {name: play(source, stage)["score"] for name, source in sources.items()}
    assert score["start"] < score["eplb"] < score["eplb_smoothed"] < score["fractional"] <= 1


def test_someone_who_knew_the_next_window_would_come_close_to_the_bound(sources):
    place = load(sources["eplb_smoothed"], PROBLEM.language)["place"]
    figures = [
        case.balance(place(case.following[None] * 1.0, case.gpus, case.slots_per_gpu), case.following).mean()
        for case in cases("search")
    ]
    assert np.mean(figures) > 0.99 * np.mean([case.bound for case in cases("search")])


def test_probe_tells_programs_apart_that_differ_in_a_constant(play, sources):
    assert "SMOOTHING = 0.45" in sources["eplb_smoothed"]
    other = sources["eplb_smoothed"].replace("SMOOTHING = 0.45", "SMOOTHING = 0.5")
    assert play(other)["behaviour"] != play(sources["eplb_smoothed"])["behaviour"]


def test_seeds_pass_the_screen():
    for seed in PROBLEM.seeds():
        assert screen(seed.source, PROBLEM.language) == []


def test_eplb_gives_spare_slots_to_the_largest_share_and_packs_the_heaviest_first(sources):
    place = load(sources["eplb"], PROBLEM.language)["place"]
    # Expert 0 is halved, 90 -> 45 45; packed 45 | 45, then 40 and 30 to the lightest with room.
    found = place(np.array([[[90.0, 40.0, 30.0]]]), 2, 2)
    assert sorted(map(sorted, found.reshape(2, 2).tolist())) == [[0, 1], [0, 2]]


def test_start_tells_its_objective_as_the_judge_would_on_the_average_window(sources):
    case = cases("search")[0]
    names = load(sources["start"], PROBLEM.language)
    told = case.told()
    phy2log = names["place"](**{k: v if v.ndim else v.item() for k, v in told.items()})
    expected = case.balance(phy2log, case.history.mean(0)).mean()
    assert names["balance"](phy2log, case.history, case.gpus, case.slots_per_gpu) == pytest.approx(expected)


def test_next_window_is_not_told():
    for case in cases("probe"):
        assert set(case.told()) == {"history", "gpus", "slots_per_gpu"}
        assert not any(np.array_equal(window, case.following) for window in case.history)


def test_stages_have_loads_of_their_own_and_the_same_at_every_call():
    assert len(set(PROBLEM.inputs(None).splits.values())) == len(STAGES)
    assert PROBLEM.inputs(None).splits == PROBLEM.inputs(None).splits


GOOD = "np.tile(np.arange(gpus * slots_per_gpu) % history.shape[2], (history.shape[1], 1))"


@pytest.mark.parametrize(
    ("returned", "kind", "says"),
    [
        (f"np.maximum({GOOD}, 1)", "invalid_output", "none for expert 0"),
        (f"{GOOD} - 1", "invalid_output", "has to lie in 0"),
        (f"{GOOD} + 1", "invalid_output", "has to lie in 0"),
        (f"{GOOD} * 1.0", "invalid_output", "whole numbers"),
        (f"{GOOD} * np.nan", "invalid_output", "whole numbers"),
        (f"{GOOD}[:, :-1]", "invalid_output", "whole numbers"),
        (f"{GOOD}[0]", "invalid_output", "whole numbers"),
        ("[[0, 1], [0]]", "interface", "rectangular"),
        ("None", "interface", "array of numbers"),
    ],
)
def test_invalid_mappings_are_labelled_failures(play, returned, kind, says):
    source = f"import numpy as np\n\n\ndef place(history, gpus, slots_per_gpu):\n    return {returned}\n"
    with pytest.raises(CandidateError, match=says) as error:
        play(source)
    assert error.value.failure_kind == kind


def test_a_second_copy_of_a_slot_does_not_make_load_disappear():
    """The hole of a published evaluator: repeated slots were counted once."""
    case = Placing(np.array([[[10, 10]]]), np.array([[10, 10]]), 2, 2)
    assert case.balance(np.array([[0, 0, 1, 1]]), case.following) == pytest.approx([1.0])
    assert replicas(np.array([[0, 0, 1, 1]]), 2).tolist() == [[2, 2]]


def test_example_of_the_interface_runs_and_passes_the_screen(play, sources):
    example = PROBLEM.interface.split("```python\n")[2].partition("```")[0]
    assert screen(example, PROBLEM.language) == []
    assert play(example, "search")["score"] > play(sources["start"], "search")["score"]


def test_split_is_named_after_the_window_that_is_not_told():
    def splits(following: int) -> dict:
        placing = Placing(np.array([[[5, 5]]]), np.array([[5, following]]), 2, 2)
        return inputs_of(lambda _: (placing,), "", untold=lambda case: {"following": case.following}).splits

    assert splits(5) == splits(5) != splits(6)
