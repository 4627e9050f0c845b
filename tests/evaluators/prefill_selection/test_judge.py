"""What the judge lets pass, what it refuses, and that its figures are what the reference says."""

import numpy as np
import pytest

from evaluators.evaluation import CandidateError
from evaluators.prefill_selection.reference import computed_fraction, row_error
from evaluators.prefill_selection.scoring import measure
from evaluators.problem import get_problem
from evaluators.recording import prompt_blocks, prompt_positions

SEEDS = {seed.name: seed.source for seed in get_problem("prefill_selection").seeds()}
BUDGETS = ("20.0%", "30.0%", "50.0%")

TEMPLATE = """
import torch

class Policy:
{observe}
    def select(self, block, budget, generator):
{body}
        kept = block.affordable(budget)
        columns = torch.zeros(block.heads, block.end).bool()
        columns[:, max(0, block.begin - kept) :] = True
{after}
        return columns
"""


def policy(body: str = "", after: str = "", observe: str = "") -> str:
    def indented(text: str, spaces: int) -> str:
        return "\n".join(" " * spaces + line for line in text.split("; ") if line)

    observed = f"    def observe(self, block, budget):\n{indented(observe, 8)}\n" if observe else ""
    return TEMPLATE.format(observe=observed, body=indented(body, 8), after=indented(after, 8))


def refusal(play, source: str, stage: str = "probe") -> CandidateError:
    with pytest.raises(CandidateError) as caught:
        play(source, stage)
    return caught.value


def test_the_recorded_query_blocks_are_whole_and_end_the_quarters_of_a_prompt():
    assert prompt_blocks(2048) == ((448, 512), (960, 1024), (1472, 1536), (1984, 2048))
    assert prompt_positions(2048)[:64] == tuple(range(448, 512))


def test_errors_agree_with_the_reference_in_float64(examine):
    examination = examine(SEEDS["anchor_attention"], "search")
    layer = examination.workload.contexts[0][1]
    rows, heads = (0, 17, 63), (0, 4, 8)
    found = []
    for number, decision in enumerate(examination.played[0, 1, 0]):
        for head in heads:
            columns = np.flatnonzero(decision.columns[head]).tolist()
            found.append([row_error(layer, number, head, row, columns) for row in rows])
    errors = measure(examination.workload, 0, 1, examination.played).errors[0]  # [blocks, H, M]
    assert errors[:, heads][:, :, rows].reshape(-1, 3) == pytest.approx(np.array(found), rel=1e-3)


def test_the_sample_of_a_layer_is_the_mean_error_of_its_queries_and_heads(examine):
    examination = examine(SEEDS["a_shape"], "search")
    errors = measure(examination.workload, 0, 2, examination.played).errors
    assert np.array(examination.value()["samples"])[0, :, 2] == pytest.approx(errors.mean((1, 2, 3)))


def test_everything_computed_leaves_no_error_and_costs_what_dense_attention_does(examine):
    examination = examine(policy(after="columns[:] = budget >= 1"), "probe")
    whole = measure(examination.workload, 0, 0, examination.played)
    assert whole.errors[-1].max() < 1e-5
    assert (whole.computed[-1], whole.recall[-1]) == (1.0, pytest.approx(1.0))


def test_a_policy_that_computes_nothing_pays_for_the_diagonal(play):
    verdict = play(policy(after="columns[:] = False"))
    ends = [end for _, end in prompt_blocks(992)[:3]]
    assert verdict["metrics"]["computed@20.0%"] == pytest.approx(3 * 64 / sum(ends))


@pytest.mark.parametrize("name", SEEDS)
def test_the_computed_fraction_is_the_one_that_is_counted_by_hand(examine, name):
    examination = examine(SEEDS[name], "search")
    layer = examination.workload.contexts[0][0]
    decisions = examination.played[0, 0, 0]
    counted = computed_fraction(
        layer, [one.columns for one in decisions], [one.own for one in decisions], decisions[-1].shared
    )
    assert measure(examination.workload, 0, 0, examination.played).computed[0] == pytest.approx(counted)


@pytest.mark.parametrize(
    ("asked", "own", "shared"),
    [
        ("block.scores(torch.arange(5))", lambda end: 9 * 5 * end, 0),
        ("block.scores(torch.arange(64), torch.arange(10))", lambda end: 9 * 64 * 10, 0),
        ("block.mean_scores()", lambda end: 9 * (end + 64), 0),
        ("block.mean_scores(16)", lambda end: 9 * (-(-end // 16) + 64), 3 * 992),
        ("block.mean_scores(16); block.mean_scores(16)", lambda end: 9 * (2 * -(-end // 16) + 64), 3 * 992),
        (
            "block.mean_scores(16); block.mean_scores(32)",
            lambda end: 9 * (-(-end // 16) + -(-end // 32) + 64),
            6 * 992,
        ),
        ("block.compute(torch.arange(7))", lambda end: 0, 0),
    ],
)
def test_what_is_read_to_decide_costs_what_a_hand_counts(examine, asked, own, shared):
    examination = examine(policy(asked), "second_probe")
    (decision,) = examination.played[0, 0, 1]
    end = decision.columns.shape[1]
    assert decision.own == own(end)
    assert decision.shared == shared


def test_a_look_at_the_end_of_the_prompt_counts_relative_to_all_of_it(examine):
    examination = examine(policy(observe="self.seen = block.scores(torch.arange(20))"), "second_probe")
    (decision,) = examination.played[0, 0, 1]
    assert (decision.own, decision.shared) == (0, 9 * 20 * 992)
    layer = examination.workload.contexts[0][0]
    # 15 blocks of 64 queries and one of 32, counted from the end
    whole = 9 * 2 * (sum(64 * end for end in range(992, 32, -64)) + 32 * 32)
    base = sum(block.rows for block in layer.blocks) / sum(block.end for block in layer.blocks)
    spent = base + 9 * 20 * 992 / whole
    left = int((0.3 - spent) / (1 - base) * layer.blocks[0].begin)
    assert decision.columns[0].sum() == left + 64


def test_computed_columns_are_selected_and_cost_no_more_than_that(examine):
    given = examine(policy(body="block.compute(torch.arange(12))"), "second_probe").played[0, 0, 1][0]
    plain = examine(policy(), "second_probe").played[0, 0, 1][0]
    assert given.columns[:, :12].all()
    assert given.columns.sum() == plain.columns.sum()
    assert given.own == plain.own == 0


def test_scores_are_those_of_the_recording_and_no_query_sees_what_follows_it(play, judge):
    layer = judge.examine("second_probe", "").workload.contexts[0][0]
    block, group = layer.blocks[0], 3
    exact = block.queries[5, 3] @ layer.keys[5 // group, : block.begin + 4].astype(np.float32).T / 8
    told = policy("found = block.scores(torch.tensor([3]))[5, 0]", "raise ValueError(str(found.tolist()))")
    with pytest.raises(ValueError) as caught:
        play(told, "second_probe")
    found = np.array([float(one) for one in str(caught.value).strip("[]").split(", ")])
    assert found[: block.begin + 4] == pytest.approx(exact, rel=1e-4, abs=1e-4)
    assert (found[block.begin + 4 :] == -np.inf).all()


def test_an_oracle_decides_for_free_and_a_policy_does_not(play):
    oracle = SEEDS["oracle_blocks"]
    assert play(oracle)["descriptors"]["deciding_share"] == 0
    claimed = oracle.replace("Oracle", "An oracle")  # any other source that says that it is one
    error = refusal(play, claimed, "search")
    assert error.failure_kind == "over_budget"


def test_recall_of_an_oracle_is_the_largest(play):
    recalls = {name: play(source)["metrics"]["recall@30.0%"] for name, source in SEEDS.items()}
    even = [name for name in recalls if name not in ("anchor_attention", "flexprefill")]  # equal heads
    assert max(even, key=lambda name: recalls[name]) == "oracle_columns"


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (policy(after="columns = columns[:, 1:]"), "interface", "columns [9, "),
        (policy(after="columns = columns.float()"), "interface", "no real numbers"),
        (policy(after="columns = None"), "interface", "NoneType"),
        (policy("block.scores(torch.arange(65))"), "interface", "0 .. 63"),
        (policy("block.scores(torch.rand(3))"), "interface", "whole numbers [r]"),
        (policy("block.compute(torch.arange(block.end + 1))"), "interface", "went beyond"),
        (policy("block.compute(torch.zeros(2, 3).long())"), "interface", "[9, m] or [m]"),
        (policy("block.mean_scores(0)"), "interface", "from 1 to"),
        (policy(observe="block.compute(torch.arange(2))"), "interface", "not scored"),
        (policy(after="columns[:, :80] = True"), "over_budget", "affordable"),
        (policy("block.scores(torch.arange(64)) if budget < 1 else 0"), "over_budget", "affordable"),
        (policy("block.spent = 0.0"), "over_budget", "affordable"),  # what it believes changes no cost
        (policy(after="columns[:, :3] = False"), "invalid_output", "100%"),
    ],
)
def test_broken_output_has_a_labelled_failure_that_says_why(play, source, kind, words):
    error = refusal(play, source)
    assert error.failure_kind == kind
    assert words in str(error)


@pytest.mark.parametrize("hidden", ["class Memory:\n    seen = []\n", "SEEN = []\n"])
def test_state_outside_the_policy_object_is_found_out(play, hidden):
    name = "Memory.seen" if "class" in hidden else "SEEN"
    source = hidden + policy(after=f"{name}.append(1); columns[:, 0] |= len({name}) % 3 == 0")
    assert refusal(play, source).failure_kind == "nondeterministic"


def test_randomness_that_is_not_from_the_generator_is_found_out(play):
    source = policy(after="columns = columns.roll(int(torch.randint(9, (1,))), 1) if budget < 1 else columns")
    assert refusal(play, source).failure_kind == "nondeterministic"


def test_what_a_policy_remembers_on_itself_goes_from_block_to_block_of_a_layer(examine):
    counting = policy(
        after="self.count = self.count + 1; columns[:, block.begin - self.count] = budget >= 1",
        observe="self.count = 0",
    )
    examination = examine(counting, "probe")
    assert examination.value()["score"]
    for decisions in (examination.played[0, 2, 0], examination.played[0, 2, 1]):
        for number, decision in enumerate(decisions):
            newest = decision.columns[0, :-64]
            assert np.flatnonzero(~newest[-3:]).tolist() == [2 - number]


def test_no_process_plays_two_budgets_where_a_score_is_earned(judge, actor):
    examination = judge.examine("search", SEEDS["a_shape"])
    budgets = []
    while examination.another_process():
        seen = set()

        def answer(question, arrays, seen=seen):
            told = examination.answer(question, arrays)
            seen |= {float(told["budget"])} if "budget" in told else set()
            return told

        examination.take(actor.act(SEEDS["a_shape"], answer))
        budgets.append(seen)
    assert budgets == [{0.2}, {0.3}, {0.5}]


def test_a_policy_that_draws_is_noisy_and_draws_otherwise_in_another_sample(judge, actor):
    def played(sample: int):
        examination = judge.examine("search", SEEDS["uniform_random"], sample)
        while examination.another_process():
            examination.take(actor.act(SEEDS["uniform_random"], examination.answer))
        return examination.value()

    first, again, other = played(0), played(0), played(1)
    assert first["noisy"]
    assert first == again
    assert first["score"] != other["score"]


def test_equal_decisions_have_an_equal_behaviour_hash(play):
    source = SEEDS["a_shape"]
    other = source.replace("RECENT = 4096", "RECENT = 2048")
    renamed = source.replace("kept", "left")
    hashes = [play(one, "probe")["behaviour"] for one in (source, renamed, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_feedback_tells_what_deciding_took_and_where_the_error_is(play):
    said = play(SEEDS["flexprefill"])["feedback"]
    assert "to decide" in said
    assert said.count("by layer: ") == len(BUDGETS)


def test_uneven_layers_hold_the_budget_on_average(play):
    first = "2 * (budget - 0.13) + 0.13 if block.layer == 0 else 0.5 * (budget - 0.13) + 0.13"
    source = SEEDS["a_shape"].replace("block.affordable(budget)", f"block.affordable({first})")
    source = source.replace("first = kept", "kept = block.end if budget >= 1 else kept\n        first = kept")
    moved, plain = play(source), play(SEEDS["a_shape"])
    assert moved["metrics"]["computed@20.0%"] == pytest.approx(plain["metrics"]["computed@20.0%"], abs=0.005)
    assert np.array(moved["samples"])[0, 0, 0] < np.array(plain["samples"])[0, 0, 0]
