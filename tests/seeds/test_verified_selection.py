"""Policies that guarantee an error, as seeds: each asks for as much as its rule says."""

import types

import numpy as np
import pytest
import torch
from scipy.stats import norm

from evaluators.models import GGUF_SHA256
from evaluators.problem import get_problem
from evaluators.token_selection.artefacts import learnt
from evaluators.verified_selection.standalone import Goal, Index
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker
from tests.seeds.policies import a_cache

PROBLEM = get_problem("verified_selection")
SEEDS = {seed.name: seed for seed in PROBLEM.seeds()}
ADAPTIVE = sorted(SEEDS.keys() - {"dense"})


def module(name: str) -> types.ModuleType:
    """A seed executed alone, as if it had been copied out."""
    loaded = types.ModuleType(name)
    loaded.Index = Index
    exec(compile(SEEDS[name].source, name, "exec"), vars(loaded))
    return loaded


def chosen(name: str, layer, goal: Goal, seed: int = 0):
    """What a seed selects at its first step, and with which probability [H, M] each."""
    query, keys, cache = a_cache(layer)
    policy = module(name).Policy()
    if hasattr(policy, "calibrate"):
        parts = learnt(GGUF_SHA256, layer[2])
        policy.calibrate({part: torch.from_numpy(tensor.copy()) for part, tensor in parts.items()})
    if hasattr(policy, "prefill"):
        policy.prefill(keys)
    return policy.select(query, cache, goal, torch.Generator().manual_seed(seed))


def read(name: str, layer, goal: Goal) -> float:
    """Tokens that a head reads, on average."""
    tokens, _ = chosen(name, layer, goal)
    return float((tokens >= 0).sum(1).float().mean())


@pytest.fixture(scope="module")
def verdicts():
    inputs = PROBLEM.inputs(None)
    arguments = dict(inputs.arguments) | dict(inputs.options)
    worker = Worker(TaskRef(PROBLEM.actor, PROBLEM.judge, arguments, PROBLEM.stages), Limits())
    yield {
        name: [worker.run(seed.source, stage) for stage in ("probe", "search")]
        for name, seed in SEEDS.items()
    }
    worker.close()


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_honest_and_exact_where_it_has_to_be(verdicts, name):
    for outcome in verdicts[name]:
        assert outcome.failure is None, outcome.message


def test_the_lemma_is_kept_and_the_public_code_is_not(verdicts):
    lemma, code = (verdicts[name][1].value["metrics"] for name in ("lemma", "public_code"))
    for goal, delta in (("0.1,0.1", 0.1), ("0.2,0.2", 0.2)):
        assert lemma[f"bound@{goal}"] < delta < code[f"violations@{goal}"]


def test_oracles_keep_all_goals_and_read_less_than_any_policy_that_does(verdicts):
    for name in ("oracle_top_k", "oracle_ratio"):
        metrics = verdicts[name][1].value["metrics"]
        assert metrics["certified_goals"] == 3
        for goal in ("0.05,0.05", "0.1,0.1", "0.2,0.2"):
            others = [
                each[1].value["metrics"][f"traffic@{goal}"]
                for other, each in verdicts.items()
                if SEEDS[other].role != "bound" and each[1].value["metrics"][f"certified@{goal}"]
            ]
            assert metrics[f"traffic@{goal}"] < min(others)
    assert verdicts["oracle_top_k"][1].value["metrics"]["violations@0.05,0.05"] == 0


@pytest.mark.parametrize("name", ADAPTIVE)
@pytest.mark.parametrize("quantity", ["output", "numerator", "denominator"])
def test_a_smaller_epsilon_reads_more_and_nothing_is_read_twice(layer, name, quantity):
    loose, strict = Goal(0.3, 0.2, quantity), Goal(0.02, 0.2, quantity)
    assert read(name, layer, loose) <= read(name, layer, strict)
    tokens, probability = chosen(name, layer, loose)
    for row, p in zip(tokens.tolist(), probability, strict=True):
        real = [token for token in row if token >= 0]
        assert len(set(real)) == len(real) > 0
        assert ((p > 0) & (p <= 1)).all()


@pytest.mark.parametrize("name", ["ratio", "tight", "lemma", "stratified", "importance", "uniform"])
def test_quantiles_are_those_of_the_normal_distribution(name):
    loaded = module(name)
    for probability in (0.5, 0.9, 0.95, 0.975, 0.9995):
        assert loaded.quantile(probability) == pytest.approx(norm.ppf(probability), abs=1e-9)


def test_the_ratio_rule_asks_for_less_than_the_tight_constant_and_that_for_less_than_the_lemma(layer):
    goal = Goal(0.2, 0.1)
    assert read("ratio", layer, goal) < read("tight", layer, goal) < read("lemma", layer, goal)


def test_the_lemma_asks_for_what_its_formula_says():
    z = norm.ppf(0.95)
    assert module("lemma").lemma(1_000, 0.2, 4.0, 0.1, 0.1) == pytest.approx((z * 1_000 * 0.2 / 0.4) ** 2)


def test_bernstein_guards_against_what_the_pilot_has_not_seen(layer):
    goal = Goal(0.2, 0.1)
    assert read("bernstein", layer, goal) > 1.2 * read("ratio", layer, goal)


def test_samples_are_allotted_to_strata_by_their_spread_and_no_more_than_needed():
    loaded = module("stratified")
    sizes = torch.tensor([100.0, 200.0, 400.0, 800.0, 1_600.0, 3_200.0])
    spreads = torch.tensor([[[8.0, 4.0, 2.0, 1.0, 0.5, 0.25]]])
    allowed = torch.tensor([[400.0]])

    def error(counts):
        return float((sizes * spreads[0, 0] ** 2 * (sizes / counts - 1)).sum())

    counts = loaded.allotted(sizes, spreads, allowed)[0]
    assert error(counts) <= 400**2
    assert error(counts - 3) > 400**2
    assert float(counts.max() - counts.min()) <= 2  # size times spread is the same in all of them


def test_calibrated_weights_sum_to_what_is_known_and_stay_near_the_others():
    control = module("control")
    generator = torch.Generator().manual_seed(0)
    known = torch.rand(2, 500, generator=generator) ** 3
    drawn = known[:, :60]
    total = torch.stack([torch.full((2,), 500.0), known.sum(1)], 1)
    weights = control.calibrated(drawn, total, 500 / 60)
    assert torch.allclose(weights.sum(1), total[:, 0], rtol=1e-4)
    assert torch.allclose((weights * drawn).sum(1), total[:, 1], rtol=1e-4)
    assert float((weights / (500 / 60) - 1).abs().mean()) < 0.3


def test_what_the_line_through_a_prediction_explains_need_not_be_sampled():
    """Calibrated weights are exact for sums of what is known, however the sample falls."""
    control = module("control")
    known = torch.linspace(0, 1, 400).expand(1, -1)
    exact = float((3 * known + 2).sum())
    for seed in range(20):
        places = torch.randperm(400, generator=torch.Generator().manual_seed(seed))[:40]
        drawn = known[:, places]
        total = torch.tensor([[400.0, float(known.sum())]])
        weights = control.calibrated(drawn, total, 10.0)
        assert float((weights * (3 * drawn + 2)).sum()) == pytest.approx(exact, rel=1e-3)


def test_importance_draws_in_proportion_and_reads_the_certain_ones():
    importance = module("importance")
    likely = torch.rand(200, generator=torch.Generator().manual_seed(1)) + 0.05
    likely[:5] = torch.inf
    chances = importance.chances(likely, 40)
    assert (chances[:5] == 1).all()
    assert float(chances.sum()) == pytest.approx(40, rel=1e-3)
    inside = (chances < 1).nonzero()[:, 0]
    ratios = chances[inside] / likely[inside]
    assert float(ratios.std() / ratios.mean()) < 1e-3


def test_the_second_draw_of_importance_is_as_large_as_the_variance_needs():
    importance = module("importance")
    random = np.random.default_rng(0)
    likely = torch.from_numpy(random.uniform(0.1, 1, 2_000)).float()
    squares_of_all = likely**2 * torch.from_numpy(random.uniform(0.5, 1.5, 2_000)).float()
    first = importance.chances(likely, 400)
    found = []
    for seed in range(30):
        seen = (torch.rand(2_000, generator=torch.Generator().manual_seed(seed)) < first).nonzero()[:, 0]
        allowed = torch.tensor([200.0])
        p = importance.later_chances(likely, first, seen, squares_of_all[seen][None], allowed)
        left = torch.ones(2_000, dtype=torch.bool)
        left[seen] = False
        found.append(float((squares_of_all * (1 - p) / p)[left].sum()))
    assert np.mean(found) * importance.MARGIN == pytest.approx(200, rel=0.1)


def test_codes_of_the_low_bit_copy_are_off_by_half_a_step(layer):
    loaded = module("low_bit")
    _, keys, _ = a_cache(layer)
    policy = loaded.Policy()
    policy.prefill(keys)
    codes = (policy.codes.read()[..., None] >> (loaded.BITS * torch.arange(32 // loaded.BITS))) & 3
    found = codes.flatten(2) * policy.step.float() + policy.low.float()
    assert ((found - keys)[:, loaded.SINKS :].abs() <= 0.51 * policy.step.float() + 0.01).all()


@pytest.mark.parametrize("name", ["ratio", "stratified", "low_bit", "importance", "control", "lemma"])
def test_the_denominator_is_estimated_without_bias_although_the_size_depends_on_a_pilot(layer, name):
    query, keys, _ = a_cache(layer)
    grouped = query.view(keys.shape[0], -1, keys.shape[-1])
    weights = (grouped @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5).softmax(-1).flatten(0, 1)
    sums = []
    for seed in range(60):
        tokens, p = chosen(name, layer, Goal(0.2, 0.2), seed)
        found = weights.gather(1, tokens.clamp(min=0).long()) / p
        sums.append(found.masked_fill(tokens < 0, 0).sum(1))
    drawn = torch.stack(sums)
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - 1).abs() < 5 * error + 0.01).all()
