"""Whole programs: the seeds in their order, and what breaks the rules."""

import pytest

from evaluators.evaluation import CandidateError
from evaluators.spot_scheduling.problem import PROBLEM
from evaluators.spot_scheduling.workloads import STAGES, cases
from sandbox.screen import screen

HEAD = (
    "def decide(elapsed, remaining, left, work, step, restart, migration, place, home, available, price, "
    "on_demand, memory):\n"
)


@pytest.mark.parametrize("stage", ["search", "validation"])
def test_seeds_score_in_order(play, sources, stage):
    score = {name: play(source, stage)["score"] for name, source in sources.items()}
    assert score["start"] < score["uniform_progress"] < score["price_aware"] < score["offline_optimum"] == 1


@pytest.mark.parametrize("stage", ["search", "validation"])
def test_uniform_progress_beats_greedy_as_its_paper_says(play, sources, stage):
    uniform, greedy = (play(sources[name], stage)["score"] for name in ("uniform_progress", "greedy_spot"))
    assert uniform > greedy + 0.01


def test_uniform_progress_beats_greedy_in_one_region_which_is_the_case_of_its_paper(play, sources):
    def mean(name: str) -> float:
        figures = play(sources[name], "search")["samples"]
        return sum(figures[number][0][0] for number in single) / len(single)

    single = [n for n, market in enumerate(cases("search")) if market.available.shape[2] == 1]
    assert mean("uniform_progress") > mean("greedy_spot") + 0.02


def test_uniform_progress_needs_the_deadline_rule_less_than_greedy(play, sources):
    """It goes on demand by itself, long before the last moment."""
    uniform, greedy = (
        play(sources[name], "search")["metrics"] for name in ("uniform_progress", "greedy_spot")
    )
    assert uniform["replaced"] < greedy["replaced"] / 5


def test_probe_tells_programs_apart_that_differ_in_a_constant(play, sources):
    for old, new in (("STAY = 3.0", "STAY = 1.5"), ("LATE = 2.0", "LATE = 1.0")):
        assert old in sources["price_aware"]
        other = sources["price_aware"].replace(old, new)
        assert play(other)["behaviour"] != play(sources["price_aware"])["behaviour"]


def test_seeds_pass_the_screen():
    for seed in PROBLEM.seeds():
        assert screen(seed.source, PROBLEM.language) == []


def test_stages_have_markets_of_their_own_and_the_same_at_every_call():
    assert len(set(PROBLEM.inputs(None).splits.values())) == len(STAGES)
    assert PROBLEM.inputs(None).splits == PROBLEM.inputs(None).splits


def test_memory_is_handed_back_for_the_same_trace(play):
    """Counting the calls has to agree with the time that has passed: as long as it does, on demand."""
    counted = (
        "    agrees = memory[0] * step == elapsed\n"
        "    return (len(available) if agrees else -1), [memory[0] + 1] + memory[1:]\n"
    )
    assert play(HEAD + counted)["score"] == play(HEAD + "    return len(available), memory\n")["score"]


@pytest.mark.parametrize(
    ("returned", "kind", "says"),
    [
        ("5, memory", "invalid_output", "has to lie in -1"),
        ("-2, memory", "invalid_output", "has to lie in -1"),
        ("0.0, memory", "invalid_output", "whole numbers"),
        ("float('nan'), memory", "invalid_output", "whole numbers"),
        ("[0, 1], memory", "invalid_output", "whole numbers"),
        ("None, memory", "interface", "array of numbers"),
        ("0", "interface", "memory"),
        ("0, memory[1:]", "interface", "8 numbers"),
        ("0, None", "interface", "memory"),
        ("0, [10**400] * 8", "interface", "memory"),
    ],
)
def test_invalid_answers_are_labelled_failures(play, returned, kind, says):
    with pytest.raises(CandidateError, match=says) as error:
        play(f"{HEAD}    return {returned}\n")
    assert error.value.failure_kind == kind


def test_example_of_the_interface_runs_and_passes_the_screen(play, sources):
    example = PROBLEM.interface.split("```python\n")[2].partition("```")[0]
    assert screen(example, PROBLEM.language) == []
    assert play(example, "search")["score"] > play(sources["start"], "search")["score"]
