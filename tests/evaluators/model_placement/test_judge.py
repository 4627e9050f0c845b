"""What a placement is worth, against the reference and against the rules."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.evaluation import CandidateError
from evaluators.model_placement import reference
from evaluators.model_placement.problem import PROBLEM
from evaluators.model_placement.workloads import MEMORY_GB, STAGES, cases
from evaluators.program import load
from sandbox.screen import screen


def told(case):
    """The arguments of `place`."""
    return {name: value if value.ndim else value.item() for name, value in case.told().items()}


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_judge_agrees_with_the_reference_on_any_placement(data):
    case = data.draw(st.sampled_from(cases("probe")))
    models = len(case.load)
    placement = data.draw(st.lists(st.integers(0, case.gpus - 1), min_size=models, max_size=models))
    expected = reference.pressure(placement, case.load.tolist(), case.size_gb.tolist(), case.gpus, MEMORY_GB)
    answer = {"placement": np.array(placement)}
    if expected == float("inf"):
        with pytest.raises(CandidateError, match="has to be left"):
            case.measured(answer)
        return
    measured = case.measured(answer)
    assert measured.metrics["pressure"] == float(expected)
    assert measured.figure == pytest.approx(case.best / float(expected))
    assert measured.figure <= 1


@pytest.mark.parametrize("stage", STAGES)
def test_seeds_score_in_order(play, sources, stage):
    score = {name: play(source, stage)["score"] for name, source in sources.items()}
    assert score["start"] < score["largest_first"] < score["prism"] < score["optimum"] == 1


def test_optimal_placement_is_certified_in_every_case():
    for case in cases("search"):
        best = reference.optimum(case.load.tolist(), case.size_gb.tolist(), case.gpus, MEMORY_GB)
        measured = case.measured({"placement": np.array(best.placement)})
        assert (measured.figure, measured.metrics["certified"]) == (1.0, 1.0)


def test_greedy_misses_the_optimum_of_most_cases(play, sources):
    assert play(sources["prism"], "search")["metrics"]["certified"] < 0.3


def test_seeds_pass_the_screen():
    for seed in PROBLEM.seeds():
        assert screen(seed.source, PROBLEM.language) == []


def test_prism_puts_the_highest_rate_first_where_the_pressure_becomes_lowest(sources):
    place = load(sources["prism"], PROBLEM.language)["place"]
    # 6 goes to GPU 0. 4 apart: 4 / 30. 1 with the 4: 5 / 29, with the 6: 7 / 9.
    assert place(np.array([1.0, 6.0, 4.0]), np.array([1.0, 30.0, 10.0]), 2, 40.0) == [1, 0, 1]


def test_largest_first_balances_loads_and_looks_at_memory_only_for_room(sources):
    place = load(sources["largest_first"], PROBLEM.language)["place"]
    assert place(np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 1.0]), 2, 10.0) == [0, 1, 1]
    assert place(np.array([3.0, 2.0, 1.0]), np.array([1.0, 9.0, 1.0]), 2, 10.0) == [0, 1, 0]


def test_start_tells_its_objective_as_the_judge_does(sources):
    names = load(sources["start"], PROBLEM.language)
    for case in cases("search"):
        placement = names["place"](**told(case))
        measured = case.measured({"placement": np.array(placement)})
        assert names["pressure"](placement, **told(case)) == pytest.approx(measured.metrics["pressure"])
        full = names["pressure"]([0] * len(case.load), **told(case))
        assert full > 1e9 > measured.metrics["pressure"]


def test_optimum_is_not_told():
    for case in cases("probe"):
        assert set(case.told()) == {"load", "size_gb", "gpus", "memory_gb"}


def test_stages_have_models_of_their_own_and_the_same_at_every_call():
    splits = PROBLEM.inputs(None).splits
    assert len(set(splits.values())) == len(STAGES)
    assert PROBLEM.inputs(None).splits == splits


ALL = "np.arange(len(load)) % gpus"


@pytest.mark.parametrize(
    ("returned", "kind", "says"),
    [
        ("[0] * len(load)", "invalid_output", "has to be left"),
        (f"{ALL} - 1", "invalid_output", "has to lie in 0"),
        (f"{ALL} + 1", "invalid_output", "has to lie in 0"),
        (f"{ALL} * 1.0", "invalid_output", "whole numbers"),
        (f"{ALL} * np.nan", "invalid_output", "whole numbers"),
        (f"({ALL})[:-1]", "invalid_output", "whole numbers"),
        (f"({ALL})[None]", "invalid_output", "whole numbers"),
        ("[]", "invalid_output", "whole numbers"),
        ("[True] * len(load)", "invalid_output", "whole numbers"),
        ("[[0, 1], [0]]", "interface", "rectangular"),
        ("0.001", "invalid_output", "whole numbers"),
        ("None", "interface", "array of numbers"),
        (f"({ALL}, 0.001)", "interface", "rectangular"),
    ],
)
def test_invalid_placements_are_labelled_failures(play, returned, kind, says):
    source = f"import numpy as np\n\n\ndef place(load, size_gb, gpus, memory_gb):\n    return {returned}\n"
    with pytest.raises(CandidateError, match=says) as error:
        play(source)
    assert error.value.failure_kind == kind


def test_arguments_are_copies_that_a_candidate_cannot_lighten(play, sources):
    """A hole of evaluators that share their data with the candidate: it makes the models smaller."""
    lighter = sources["prism"].replace(
        "    return placement", "    load *= 1e-6\n    size_gb *= 0\n    return placement"
    )
    assert lighter != sources["prism"]
    assert play(lighter, "search")["score"] == play(sources["prism"], "search")["score"]


def test_one_gpu_for_each_model_is_refused(play):
    """The hole of a published evaluator: the number of GPUs was never checked."""
    with pytest.raises(CandidateError, match="has to lie in 0"):
        play("def place(load, size_gb, gpus, memory_gb):\n    return list(range(len(load)))\n")


def test_a_candidate_that_fails_in_one_case_has_no_score(play, sources):
    """The hole of a published evaluator: failed cases left the mean."""
    picky = sources["prism"].replace(
        "    return placement", "    return placement if load[0] > 3 else placement[1:]"
    )
    with pytest.raises(CandidateError, match="whole numbers"):
        play(picky, "search")


def test_example_of_the_interface_runs_and_passes_the_screen(play, sources):
    example = PROBLEM.interface.split("```python\n")[2].partition("```")[0]
    assert screen(example, PROBLEM.language) == []
    assert play(example, "search")["score"] > play(sources["start"], "search")["score"]
