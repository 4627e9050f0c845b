"""Candidates of model_placement in a real sandbox."""

import pytest

from evaluators.model_placement.problem import PROBLEM
from tests.evaluators.cases.stages import run

SEEDS = {seed.name: seed.source for seed in PROBLEM.seeds()}


def test_baselines_lie_between_the_start_and_the_optimum():
    scores = {name: run(PROBLEM, source, "search").value["score"] for name, source in SEEDS.items()}
    assert scores["start"] < scores["largest_first"] < scores["prism"] < scores["optimum"] == 1


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ("[0] * len(load)", "invalid_output"),  # more than the memory of one GPU
        ("[gpus] * len(load)", "invalid_output"),
        ("load / 0", "invalid_output"),
        ("None", "interface"),
        ("[0] * undefined", "crash"),
    ],
)
def test_a_wrong_answer_is_a_labelled_failure(answer, failure):
    program = f"def place(load, size_gb, gpus, memory_gb):\n    return {answer}\n"
    assert run(PROBLEM, program, "search").failure == failure


def test_source_of_the_bound_gains_nothing_with_another_character():
    outcome = run(PROBLEM, SEEDS["optimum"] + "# mine\n", "search")
    assert outcome.failure == "invalid_output"
