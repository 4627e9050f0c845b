"""The bandit over models and operators: it finds what pays, forgets what paid, and goes on trying others."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from database.records import Effort, Placement, Step
from evolve.bandit import WINDOW, Bandit, drawn, gain_per_dollar, gain_per_token, progress
from evolve.streams import stream

ARMS = {"rewrite": 1.0, "diff": 1.0, "plan": 1.0}
NOTHING = Step(0, "rewrite", "hash", "parent", 1.0, Placement.REJECTED, effort=Effort("small", 1000))


def result(
    operator: str, gain: float = 0.0, tokens: int = 1000, model: str = "small", usd: float = 0.0
) -> Step:
    effort = Effort(model, tokens, cost_usd=usd)
    placement = Placement.IMPROVED if gain else Placement.REJECTED
    return replace(NOTHING, operator=operator, gain=gain, placement=placement, effort=effort)


def draws(steps: list[Step], pay=gain_per_token, weights: dict[str, float] = ARMS) -> Counter[str]:
    """How often each arm is drawn in 300 draws."""
    bandit = Bandit(steps, pay, ("small", "large"))
    draw = bandit.draw_model if "small" in weights else bandit.draw_operator
    return Counter(draw(weights, stream(0, number, "choice")) for number in range(300))


def test_what_pays_is_chosen_most():
    steps = [result("diff", 0.1), result("rewrite"), result("plan")] * 20
    chosen = draws(steps)
    assert chosen["diff"] > 200
    assert min(chosen.values()) > 5  # the others are still tried


def test_gain_counts_per_unit_cost():
    steps = [result("diff", 0.1, tokens=1000), result("plan", 0.2, tokens=20_000), result("rewrite")] * 20
    assert draws(steps).most_common(1)[0][0] == "diff"


def test_dollars_count_where_all_prices_are_known():
    steps = [result("diff", 0.1, usd=1.0), result("plan", 0.1, tokens=9000, usd=0.01), result("rewrite")] * 20
    assert draws(steps, gain_per_dollar).most_common(1)[0][0] == "plan"
    assert draws(steps, gain_per_token).most_common(1)[0][0] == "diff"


def test_a_filled_cell_is_worth_less_than_any_gain_and_more_than_nothing():
    filled = replace(result("rewrite"), placement=Placement.NEW_CELL)
    assert draws([result("diff", 1e-9), filled] * 20).most_common(1)[0][0] == "diff"
    weights = {"rewrite": 1.0, "plan": 1.0}
    assert draws([filled, result("plan")] * 20, weights=weights)["rewrite"] > 200


def test_by_progress_a_good_elite_is_worth_more_than_a_large_gain_of_a_bad_one():
    good = replace(result("plan", 0.01), score=0.9)
    steps = [good, replace(result("diff", 0.5), score=0.1), replace(result("rewrite"), score=1.0)] * 20
    assert draws(steps, gain_per_token).most_common(1)[0][0] == "diff"
    chosen = draws(steps, lambda step: progress(step, 0.0))
    assert chosen.most_common(1)[0][0] == "plan"
    assert chosen["rewrite"] < chosen["diff"]  # it never entered the grid


def test_by_progress_a_place_in_the_grid_is_worth_nothing_without_a_better_score_than_the_parents():
    placed = replace(result("plan", 0.1), score=0.9)
    assert progress(placed, 0.9) == (0.0, 0.0) < progress(placed, 0.8)


def test_what_paid_long_ago_is_forgotten():
    long_ago = [result("diff", 0.5)] * WINDOW
    lately = [result("plan", 0.001), result("diff")] * (WINDOW // 2)
    assert draws(long_ago + lately).most_common(1)[0][0] == "plan"


def test_models_and_operators_are_learned_from_the_same_results():
    steps = [result("diff", 0.1, model="large"), result("plan", model="small")] * 20
    assert draws(steps, weights={"small": 1, "large": 1}).most_common(1)[0][0] == "large"


def test_results_of_no_model_do_not_count():
    steps = [replace(result("seed", 9.0), effort=Effort())] * 50
    assert draws(steps) == draws([])


def test_an_arm_without_weight_is_never_drawn():
    steps = [result("diff", 0.1)] * 20
    assert draws(steps, weights={"diff": 0.0, "rewrite": 1.0}).keys() == {"rewrite"}


@pytest.mark.parametrize("factor", [1e-9, 1.0, 1e9])
def test_the_scale_of_scores_does_not_matter(factor):
    steps = [result("diff", 0.1 * factor), result("plan", 0.2 * factor), result("rewrite")] * 10
    assert draws(steps) == draws([replace(step, gain=step.gain / factor) for step in steps])


@given(
    gains=st.lists(st.tuples(st.sampled_from(list(ARMS)), st.floats(0, 1e6)), max_size=150),
    number=st.integers(0, 1000),
)
def test_the_state_is_in_the_archive_alone(gains, number):
    steps = [result(operator, gain) for operator, gain in gains]
    lived, resumed = (Bandit(known, gain_per_token, {"small", "large"}) for known in ([], steps[-WINDOW:]))
    for step in steps:
        lived.learn(step)
    one, other = (bandit.draw_operator(ARMS, stream(3, number, "choice")) for bandit in (lived, resumed))
    assert one == other


def test_weights_alone_are_drawn_in_proportion():
    chosen = Counter(drawn({"a": 3.0, "b": 1.0, "c": 0.0}, number / 100) for number in range(100))
    assert chosen == {"a": 75, "b": 25}
