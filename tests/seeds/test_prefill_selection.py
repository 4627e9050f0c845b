"""Every prefill seed keeps what its paper claims: on planted patterns, and on recorded attention."""

import ast
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.prefill_selection.standalone import Block
from evaluators.problem import get_problem
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker

PROBLEM = get_problem("prefill_selection")
SEEDS = {seed.name: seed for seed in PROBLEM.seeds()}
BUDGETS = ("20.0%", "30.0%", "50.0%")
PROMPT, ROWS, SIZE, HEADS = 1024, 64, 32, 2


@pytest.fixture(scope="module")
def worker():
    arguments = dict(PROBLEM.inputs(None).arguments)
    worker = Worker(TaskRef(PROBLEM.actor, PROBLEM.judge, arguments, PROBLEM.stages), Limits())
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def verdicts(worker) -> dict[str, dict]:
    return {name: worker.run(seed.source, "search").value for name, seed in SEEDS.items()}


def module(name: str) -> types.ModuleType:
    """A seed executed alone, as if it had been copied out."""
    loaded = types.ModuleType(name)
    exec(compile(SEEDS[name].source, name, "exec"), vars(loaded))
    return loaded


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blocks_of(queries: torch.Tensor, keys: torch.Tensor) -> tuple[Block, Block]:
    """Of a prompt, queries [H, N, D] and keys [G, N, D]: the last block, and the one in the middle."""
    last, middle = (Block(queries[:, at : at + ROWS], keys, at) for at in (PROMPT - ROWS, 512))
    return last, middle


def selected(name: str, queries: torch.Tensor, keys: torch.Tensor, budget: float = 0.3) -> torch.Tensor:
    """The columns [H, end] that a seed selects for the block in the middle of a prompt."""
    policy = module(name).Policy()
    last, block = blocks_of(queries, keys)
    if hasattr(policy, "observe"):
        policy.observe(last, budget)
    return policy.select(block, budget, torch.Generator().manual_seed(0))


def planted_line(token: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys of noise, where every query attends to one token."""
    queries, keys = noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1)
    queries[..., 0], keys[..., 0] = 6.0, 0.0
    keys[:, token, 0] = 8.0
    return queries, keys


def planted_slash(distance: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys of noise, where every query attends to the token at a distance."""
    keys = noise(1, PROMPT, SIZE, seed=1)
    return (2.0 * keys.roll(distance, 1)).expand(HEADS, -1, -1).clone(), keys


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_states_its_source_and_imports_nothing_of_the_project(name):
    tree = ast.parse(SEEDS[name].source)
    assert "arXiv:" in (ast.get_docstring(tree) or "")
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported <= {"torch", "math"}


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_passes_the_probe_and_so_reproduces_dense_attention_at_full_budget(name, worker):
    outcome = worker.run(SEEDS[name].source, "probe")
    assert outcome.failure is None, outcome.message


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_uses_its_budget_and_never_more(name, verdicts):
    for budget in BUDGETS:
        used = verdicts[name]["metrics"][f"computed@{budget}"]
        assert 0.98 * float(budget[:-1]) / 100 < used <= float(budget[:-1]) / 100 * (1 + 1e-6)


def test_floors_are_below_all_and_the_oracle_of_blocks_is_above(verdicts):
    score = {name: verdict["score"] for name, verdict in verdicts.items()}
    others = [score[name] for name, seed in SEEDS.items() if seed.role == "seed"]
    assert max(score["uniform_random"], score["recent_window"]) < min(others)
    assert score["oracle_blocks"] > max(others)


def test_oracles_hold_more_attention_than_what_they_bound(verdicts):
    recall = {name: verdict["metrics"]["recall@30.0%"] for name, verdict in verdicts.items()}
    assert recall["oracle_columns"] > recall["oracle_blocks"]
    assert recall["oracle_columns"] > max(recall[n] for n, s in SEEDS.items() if s.role != "bound")
    assert recall["oracle_blocks"] > recall["block_sparse"]


@pytest.mark.parametrize("name", SEEDS)
def test_at_a_full_budget_everything_is_selected(name):
    assert selected(name, noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1), budget=1.0).all()


def test_a_shape_is_the_first_and_the_nearest_tokens_one_to_four():
    columns = selected("a_shape", noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1))[0, :512]
    edges = columns.int().diff().nonzero().flatten()
    first, recent = int(edges[0]) + 1, 512 - int(edges[1]) - 1
    assert len(edges) == 2
    assert first == (first + recent) // 5


def test_the_recent_window_is_right_before_the_block():
    columns = selected("recent_window", noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1))
    kept = int(columns[0, :512].sum())
    assert kept > 50
    assert columns[0, 512 - kept : 512].all()


def test_uniform_random_takes_each_block_equally_often():
    policy, generator = module("uniform_random").Policy(), torch.Generator().manual_seed(0)
    _, block = blocks_of(noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1))
    draws = [policy.select(block, 0.3, generator)[:, :512] for _ in range(500)]
    counts = torch.stack(draws).float().mean((0, 1)).unflatten(0, (-1, 16)).mean(1)
    share = float(counts.mean())
    assert (counts - share).abs().max() < 5 * (share * (1 - share) / (500 * HEADS)) ** 0.5


def test_vertical_slash_finds_a_vertical_line():
    columns = selected("vertical_slash", *planted_line(333))
    assert columns[:, 333].all()


@pytest.mark.parametrize("distance", [200, 301])
def test_vertical_slash_finds_a_diagonal_and_moves_it_along(distance):
    queries, keys = planted_slash(distance)
    met = slice(512 - distance, 512 + ROWS - distance)
    assert selected("vertical_slash", queries, keys, budget=0.5)[:, met].all()
    assert not selected("a_shape", queries, keys, budget=0.5)[:, met].all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), limit=st.integers(0, 200), begin=st.integers(70, 200))
def test_slashes_are_those_of_the_heaviest_diagonals_as_far_as_they_fit(seed, limit, begin):
    order = torch.stack(
        [torch.randperm(264, generator=torch.Generator().manual_seed(seed + h)) for h in range(2)]
    )
    found = module("vertical_slash").slashes_within(order, limit, begin, 16)
    for head in range(2):
        met: set[int] = set()
        for distance in order[head].tolist():
            more = {row - distance for row in range(begin, begin + 16)} & set(range(begin))
            if len(met | more) > limit:
                break
            met |= more
        assert set(found[head].nonzero().flatten().tolist()) == met


def test_block_sparse_takes_the_blocks_that_are_closest_in_the_mean():
    queries, keys = noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1)
    queries[..., 0] = 4.0
    keys[:, 96:112, 0] += 3.0
    keys[:, 304:320, 0] += 2.0
    columns = selected("block_sparse", queries, keys, budget=0.18)
    assert columns[:, 96:112].all()
    assert columns[:, 304:320].all()


def test_block_sparse_overlooks_a_single_token_that_vertical_lines_show():
    queries, keys = planted_line(333)
    keys[:, 320:336, 0] -= 1.0  # the mean of its block is as that of any other
    keys[:, 320:336, 0] -= keys[:, 320:336, 0].mean()
    assert not selected("block_sparse", queries, keys, budget=0.2)[:, 333].any()
    assert selected("vertical_slash", queries, keys, budget=0.2)[:, 333].all()
    assert selected("flexprefill", queries, keys, budget=0.2)[:, 333].all()


def test_flexprefill_believes_the_estimate_where_it_agrees_with_the_attention():
    queries, keys = planted_line(333)
    queries[0] *= 0.01  # flat: means estimate it well
    queries[1, :, 1:] = 0.0
    policy = module("flexprefill").Policy()
    policy.observe(blocks_of(queries, keys)[0], 0.3)
    assert policy.aware.tolist() == [True, False]


def test_flexprefill_lets_flat_heads_compute_more_and_peaked_ones_their_least():
    queries, keys = planted_line(2)
    queries[0] *= 0.01
    queries[1] *= 2.0
    columns = selected("flexprefill", queries, keys)[:, :512].sum(1)
    even = float(columns.float().mean())
    assert columns[0] > 1.5 * even
    assert columns[1] == int(module("flexprefill").LEAST * even)


def test_divergence_is_zero_for_equal_distributions_and_at_most_ln_two():
    one, other = torch.tensor([[1.0, 0.0], [0.3, 0.7]]), torch.tensor([[0.0, 1.0], [0.3, 0.7]])
    found = module("flexprefill").divergence(one, other)
    assert found.tolist() == pytest.approx([0.6931, 0.0], abs=1e-3)


def test_anchor_attention_selects_exactly_what_is_within_a_difference_of_the_anchor():
    queries, keys = noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1)
    queries[0] *= 2.0
    loaded = module("anchor_attention")
    _, block = blocks_of(queries, keys)
    columns = loaded.Policy().select(block, 0.3, None)
    first = min(loaded.FIRST, int(loaded.SHARE * block.affordable(0.3)))
    looked = torch.cat([torch.arange(first), torch.arange(512, 576)])
    exact = (queries[:, 512:576] @ keys[:, looked].transpose(1, 2)) / SIZE**0.5
    exact[:, :, first:].masked_fill_(torch.ones(64, 64).triu(1).bool(), -torch.inf)
    anchor = exact.amax(-1).mean(-1, keepdim=True)
    difference = (
        anchor - queries[:, 512:576].mean(1, keepdim=True).matmul(keys.transpose(1, 2))[:, 0] / SIZE**0.5
    )
    stripes, rest = columns[:, first:512], difference[:, first:512]
    assert columns[:, :first].all()
    assert rest[stripes].max() < rest[~stripes].min()  # one difference for both heads
    assert stripes[0].sum() != stripes[1].sum()


def test_anchor_attention_finds_a_stripe_of_one_token():
    assert selected("anchor_attention", *planted_line(333))[:, 333].all()


def test_the_oracle_of_columns_takes_those_with_the_largest_attention():
    queries, keys = noise(HEADS, PROMPT, SIZE), noise(1, PROMPT, SIZE, seed=1)
    columns = selected("oracle_columns", queries, keys)[:, :512]
    scores = (queries[:, 512:576] @ keys[:, :576].transpose(1, 2)) / SIZE**0.5
    behind = torch.arange(576) > 512 + torch.arange(64)[:, None]
    mass = scores.masked_fill(behind, -torch.inf).softmax(-1).sum(1)[:, :512]
    for head in range(HEADS):
        assert mass[head][columns[head]].min() >= mass[head][~columns[head]].max()
