"""What problems of cases promise: decisions that depend on the case alone, each case answered once."""

import pytest

from evaluators.model_placement.problem import PROBLEM
from tests.evaluators.cases.stages import run

PRISM = next(seed.source for seed in PROBLEM.seeds() if seed.name == "prism")
ROUND_ROBIN = "    return [(model + {shift}) % gpus for model in range(len(load))]\n"
PLACE = "def place(load, size_gb, gpus, memory_gb):\n"


def test_an_honest_program_has_a_score_and_one_sample_per_case():
    value = run(PROBLEM, PRISM, "search").value
    assert value is not None
    figures = [sample[0][0] for sample in value["samples"]]
    assert value["score"] == pytest.approx(sum(figures) / len(figures))
    assert value["metrics"]["worst_case"] == pytest.approx(min(figures))


def test_equal_decisions_have_equal_behaviour_whatever_the_text():
    one = run(PROBLEM, PLACE + ROUND_ROBIN.format(shift=0), "probe").value
    same = run(PROBLEM, PLACE + ROUND_ROBIN.format(shift="0 * gpus"), "probe").value
    other = run(PROBLEM, PLACE + ROUND_ROBIN.format(shift=1), "probe").value
    assert one is not None
    assert same is not None
    assert other is not None
    assert one["behaviour"] == same["behaviour"] != other["behaviour"]


@pytest.mark.parametrize(
    "program",
    [
        # state between calls: in the second process the cases come in another order
        "CALLS = []\n" + PLACE + "    CALLS.append(1)\n" + ROUND_ROBIN.format(shift="len(CALLS)"),
        # other valid placements each time
        f"import random\n{PLACE}" + ROUND_ROBIN.format(shift="random.Random().randrange(10 ** 6)"),
    ],
)
def test_answers_that_do_not_repeat_are_found_out(program):
    assert run(PROBLEM, program, "probe").failure == "nondeterministic"


def test_what_a_candidate_changes_in_its_arguments_stays_its_own():
    program = PRISM.replace(
        "    return placement", "    load[:] = 0\n    size_gb[:] = 0\n    return placement"
    )
    honest = run(PROBLEM, PRISM, "search").value
    changed = run(PROBLEM, program, "search").value
    assert program != PRISM
    assert honest is not None
    assert changed is not None
    assert honest["score"] == changed["score"]


def test_a_missing_function_says_what_to_define():
    outcome = run(PROBLEM, "def put():\n    return 1\n", "probe")
    assert outcome.failure == "interface"
    assert "`place`" in outcome.message
