"""What a guarantee is worth: violations are counted as the reference counts them; what is refused."""

import numpy as np
import pytest

from evaluators.evaluation import CandidateError
from evaluators.problem import get_problem
from evaluators.token_selection.reference import relative_error
from evaluators.token_selection.turns import flat
from evaluators.verified_selection.reference import parts
from evaluators.verified_selection.scoring import errors_of, score_of
from evaluators.verified_selection.workloads import QUANTITIES, goals_of
from kvolve import KvolveError

SEEDS = {seed.name: seed.source for seed in get_problem("verified_selection").seeds()}
GOALS = ("0.1,0.1", "0.2,0.2")


def test_dense_attention_keeps_every_goal_and_scores_nothing(examine):
    verdict = examine(SEEDS["dense"], goals=GOALS).value()
    assert verdict["score"] == 0
    assert verdict["metrics"]["certified_goals"] == 2
    assert verdict["metrics"]["violations@0.1,0.1"] == 0


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_errors_agree_with_the_reference_in_float64(examine, quantity):
    examination = examine(SEEDS["ratio"], "search", (f"0.2,0.2,{quantity}",))
    workload = examination.workload
    played = flat([examination.decisions[number] for number in sorted(examination.decisions)])
    first = np.concatenate([[0], np.cumsum(played["counts"].ravel())])
    number = 1
    layer = workload.contexts[0][number]
    measured = examination._measured()[0][number]
    errors = errors_of(examination.opened, 0, number, played, measured)
    heads, group = layer.queries.shape[1], layer.queries.shape[1] // layer.keys.shape[0]
    case = next(iter(workload.cases(0, number)))
    tokens = workload.length(case.step)
    for head in range(heads):
        part = slice(first[case.number * heads + head], first[case.number * heads + head + 1])
        keys, values = layer.keys[head // group, :tokens], layer.values[head // group, :tokens]
        asked = layer.queries[case.step, head], keys, values
        found = parts(*asked, played["indices"][part], played["probabilities"][part])
        exact = parts(*asked, range(tokens), [1.0] * tokens)
        error = relative_error(found[quantity], exact[quantity])
        assert errors[0, case.step, head] == pytest.approx(error, rel=1e-3, abs=1e-6)


def test_what_is_certified_scores_by_its_traffic_and_the_rest_below_zero():
    kept, read = np.zeros(3), np.full(3, 0.1)
    trials = np.full(3, 500.0)
    sure = np.concatenate([kept, trials, read, [0.1]])[None, None]
    assert score_of(sure) == pytest.approx(1)
    unsure = np.concatenate([kept + 50, trials, read, [0.1]])[None, None]
    worse = np.concatenate([kept + 90, trials, read, [0.1]])[None, None]
    assert score_of(worse) < score_of(unsure) < 0


def test_the_score_is_that_of_its_samples(examine):
    verdict = examine(SEEDS["tight"], goals=GOALS).value()
    assert score_of(np.array(verdict["samples"])) == verdict["score"]
    assert "NOT certified" in examine(SEEDS["uniform"], goals=GOALS).value()["feedback"]


def test_violations_are_counted_by_head_and_layer(examine):
    verdict = examine(SEEDS["uniform"], goals=("0.1,0.1",)).value()
    samples = np.array(verdict["samples"])[0, 0]
    violations, trials = samples[:3], samples[3:6]
    assert (trials == 9 * 24).all()
    assert verdict["metrics"]["violations@0.1,0.1"] == pytest.approx(violations.sum() / trials.sum())
    assert 0 < verdict["metrics"]["heads_above@0.1,0.1"] <= 1


def test_a_policy_that_is_not_exact_where_no_error_is_allowed_is_refused(examine):
    careless = SEEDS["ratio"].replace("(goal.epsilon * scale)", "(max(0.01, goal.epsilon) * scale)")
    assert careless != SEEDS["ratio"]
    with pytest.raises(CandidateError, match="next to nothing") as caught:
        examine(careless, "probe").value()
    assert caught.value.failure_kind == "invalid_output"


def test_a_wrong_inclusion_probability_is_found_out(examine):
    wrong = SEEDS["ratio"].replace("(counts / left)", "(0.7 * counts / left)")
    assert wrong != SEEDS["ratio"]
    with pytest.raises(CandidateError, match="inclusion probabilities are wrong"):
        examine(wrong, "search", GOALS).value()


def test_a_bound_reads_for_free_and_a_policy_that_says_so_does_not(examine):
    bound = SEEDS["oracle_top_k"]
    free = examine(bound, goals=GOALS).value()["metrics"]["traffic"]
    claimed = bound.replace("The fewest", "Just the fewest")
    assert free < 0.6
    assert examine(claimed, goals=GOALS).value()["metrics"]["traffic"] > 0.9


def test_a_policy_is_told_what_is_guaranteed(examine):
    source = SEEDS["dense"].replace(
        "        tokens =",
        "        if goal.epsilon > 0.01:\n"
        "            raise ValueError(f'{goal.epsilon} {goal.delta} {goal.quantity}')\n"
        "        tokens =",
    )
    with pytest.raises(ValueError, match=r"^0\.3 0\.25 numerator$"):
        examine(source, "probe", ("0.3,0.25,numerator",))


@pytest.mark.parametrize(
    "goals", [["0.1"], ["0,0.1"], ["0.1,1"], ["a,b"], ["0.1,0.1,sum"], ["0.1,0.1,output,2"], ["nan,0.1"]]
)
def test_what_is_no_goal_is_told_in_a_sentence(goals):
    with pytest.raises(KvolveError, match="is not EPSILON,DELTA"):
        goals_of(goals)


def test_goals_are_of_one_quantity_and_different():
    with pytest.raises(KvolveError, match="several quantities"):
        goals_of(["0.1,0.1", "0.1,0.1,numerator"])
    with pytest.raises(KvolveError, match="twice"):
        goals_of(["0.1,0.1", "0.1,0.1,output"])


def test_other_goals_are_other_data():
    from evaluators.verified_selection.problem import PROBLEM, with_goals

    inputs = PROBLEM.inputs(None)
    other = with_goals(inputs, ["0.1,0.1"])
    assert not set(inputs.splits.values()) & set(other.splits.values())
    assert with_goals(other, ["0.05,0.05", "0.1,0.1", "0.2,0.2"]) == inputs
