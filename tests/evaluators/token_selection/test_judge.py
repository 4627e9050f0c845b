"""What the judge lets pass, what it refuses, and that its figures are what the reference says."""

import numpy as np
import pytest

from evaluators.evaluation import CandidateError
from evaluators.problem import get_problem
from evaluators.token_selection.reference import dense_output, estimate, relative_error
from evaluators.token_selection.scoring import score_of
from evaluators.token_selection.turns import flat

SEEDS = {seed.name: seed.source for seed in get_problem("token_selection").seeds()}
STREAMING = SEEDS["streaming_llm"]

TEMPLATE = """
import torch

class Policy:
    def select(self, query, cache, budget, generator):
        kept = cache.affordable(budget)
        tokens = torch.arange(cache.length - kept, cache.length).expand(cache.heads, -1).clone()
        probability = torch.ones(tokens.shape)
{body}
        return tokens, probability
"""


def policy(*body: str) -> str:
    return TEMPLATE.format(body="\n".join(" " * 8 + line for line in body))


def refusal(play, source: str, stage: str = "probe") -> CandidateError:
    with pytest.raises(CandidateError) as caught:
        play(source, stage)
    return caught.value


def test_errors_agree_with_the_reference_in_float64(examine):
    examination = examine(SEEDS["squeezed_attention_sampled"], "search")
    workload, verdict = examination.workload, examination.value()
    played = flat([examination.decisions[number] for number in sorted(examination.decisions)])
    first = np.concatenate([[0], np.cumsum(played["counts"].ravel())])
    layer = workload.contexts[0][0]
    heads, group = layer.queries.shape[1], layer.queries.shape[1] // layer.keys.shape[0]
    errors = []
    for case in list(workload.cases(0, 0))[: len(workload.steps)]:  # the smallest budget
        tokens = workload.length(case.step)
        for head in range(heads):
            part = slice(first[case.number * heads + head], first[case.number * heads + head + 1])
            keys, values = layer.keys[head // group, :tokens], layer.values[head // group, :tokens]
            query = layer.queries[case.step, head]
            found = estimate(query, keys, values, played["indices"][part], played["probabilities"][part])
            errors.append(relative_error(found, dense_output(query, keys, values)))
    assert verdict["samples"][0][0][0] == pytest.approx(np.mean(errors), rel=1e-3)


def test_a_smaller_error_is_a_higher_score():
    samples = np.random.default_rng(0).uniform(0.1, 1, size=(4, 4, 3))
    assert score_of(samples * 0.5) > score_of(samples)
    assert score_of(np.full((1, 4, 3), 0.09)) == pytest.approx(1.0)


def test_every_layer_counts_by_the_order_of_its_error():
    """Half the error in one layer is worth the same whichever it is, and less than all of a budget buys."""
    first, last = np.array([[[0.19, 0.39]]]), np.array([[[0.39, 0.19]]])
    assert score_of(first) == pytest.approx(score_of(last))
    assert score_of(first) - score_of(np.full((1, 1, 2), 0.39)) == pytest.approx(np.log10(2) / 2)
    perfect = np.array([[[0.0, 0.9]]])
    assert score_of(perfect) < score_of(np.full((1, 1, 2), 0.08))


def test_an_oracle_reads_scores_for_free_and_a_policy_does_not(play):
    oracle = SEEDS["oracle_top_k"]
    assert play(oracle)["descriptors"]["index_share"] == 0
    claimed = oracle.replace("top-k", "Top-k")  # any other source that says that it is one
    assert claimed != oracle
    assert refusal(play, claimed).failure_kind == "over_budget"


def test_a_policy_observes_queries_of_the_prompt_with_its_keys(play, examine):
    observe = """
    def observe(self, queries, positions, keys):
        raise ValueError(f"{queries.shape} {positions[-1]} {keys.shape} {float(queries[3, -1, 7])}")
"""
    with pytest.raises(ValueError, match="torch") as told:
        play(STREAMING + observe)
    workload = examine(STREAMING, "probe").workload
    layer, prefill = workload.contexts[0][0], workload.prefill
    (heads, size), kv_heads = layer.queries.shape[1:], layer.keys.shape[0]
    shapes = f"torch.Size([{heads}, 256, {size}]) {prefill - 1} torch.Size([{kv_heads}, {prefill}, {size}])"
    assert str(told.value) == f"{shapes} {float(layer.prompt_queries[-1, 3, 7])}"


def test_what_was_observed_is_kept_and_charged(play):
    observe = """
    def observe(self, queries, positions, keys):
        self.last = queries[:, -1]
"""
    assert play(STREAMING)["descriptors"]["index_share"] == 0
    assert play(STREAMING + observe)["descriptors"]["index_share"] > 0


def test_a_layer_share_moves_budget_and_keeps_the_total(play):
    shares = "\n    def layer_shares(self, layers):\n        return [3.0] + [1.0] * (layers - 1)\n"
    moved = play(STREAMING + shares)
    plain = play(STREAMING)
    for budget in ("2.5%", "5.0%", "10.0%", "20.0%"):
        assert moved["metrics"][f"traffic@{budget}"] <= plain["metrics"][f"traffic@{budget}"] + 1e-3
    assert np.array(moved["samples"])[0, 2, 0] < np.array(plain["samples"])[0, 2, 0]


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("tokens[:, 1] = tokens[:, 0]", "invalid_output", "twice"),
        ("tokens[0, 0] = cache.length", "invalid_output", "integers from -1"),
        ("tokens[0, :] = -1", "invalid_output", "at least one"),
        ("probability[0, 0] = 0.0", "invalid_output", r"(0, 1]"),
        ("probability[0, 0] = 1.5", "invalid_output", r"(0, 1]"),
        ("probability[0, 0] = float('nan')", "invalid_output", r"(0, 1]"),
        ("tokens = tokens.float()", "invalid_output", "integers"),
        ("probability = probability[:, 1:]", "interface", "probability was"),
        ("tokens = tokens[:3]", "interface", "indices [9, M]"),
        ("tokens = None", "interface", "indices was NoneType"),
        ("cache.keys(torch.full((3, 1), 10 ** 6))", "interface", "allowed are 0 to"),
        ("cache.keys(torch.zeros(2, 1))", "interface", "[3 KV heads, rows]"),
        ("self.seen = object()", "interface", "kept a object"),
        (
            "tokens = tokens[:, : kept // 2]; probability = probability[:, : kept // 2]",
            "invalid_output",
            "100%",
        ),
        ("cache.keys(torch.arange(cache.length).expand(3, -1))", "over_budget", "affordable"),
    ],
)
def test_broken_output_has_a_labelled_failure_that_says_why(play, body, kind, words):
    error = refusal(play, policy(*body.split("; ")))
    assert error.failure_kind == kind
    assert words in str(error)


def test_a_wrong_inclusion_probability_is_found_out(play):
    honest = SEEDS["sparq_sampled"]
    for wrong in ("0.8 * sampled / rest.shape[1]", "1.25 * sampled / rest.shape[1]"):
        assert play(honest, "search")
        source = honest.replace("sampled / rest.shape[1]", wrong)
        error = refusal(play, source, "search")
        assert error.failure_kind == "invalid_output"
        assert "inclusion probabilities are wrong" in str(error)


@pytest.mark.parametrize(
    "hidden",
    [
        "class Memory:\n    steps = []\n",  # a class of its own
        "STEPS = []\n",
    ],
)
def test_state_outside_the_policy_object_is_found_out(play, hidden):
    name = "Memory.steps" if "class" in hidden else "STEPS"
    source = hidden + policy(
        f"{name}.append(1)",
        f"shift = len({name}) % 7 if kept < cache.length else 0",
        "tokens = tokens - shift",
    )
    assert refusal(play, source).failure_kind == "nondeterministic"


def test_randomness_that_is_not_from_the_generator_is_found_out(play):
    source = policy("if kept < cache.length:", "    tokens = tokens - torch.randint(5, (1,))")
    assert refusal(play, source).failure_kind == "nondeterministic"


def test_equal_decisions_have_an_equal_behaviour_hash(play):
    renamed = STREAMING.replace("recent", "newest").replace("SINKS = 4", "SINKS = 2 + 2")
    other = STREAMING.replace("SINKS = 4", "SINKS = 5")
    hashes = [play(source, "probe")["behaviour"] for source in (STREAMING, renamed, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_policy_that_differs_at_one_budget_only_behaves_differently(play):
    other = STREAMING.replace("min(SINKS, kept)", "min(SINKS + (budget < 0.03), kept)")
    assert play(STREAMING, "probe")["behaviour"] != play(other, "probe")["behaviour"]
