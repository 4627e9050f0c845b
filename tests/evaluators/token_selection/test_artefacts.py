"""What policies have learnt before: how it is made, who gets it, and what it costs."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from evaluators.evaluation import CandidateError
from evaluators.models import GGUF_SHA256
from evaluators.problem import get_problem
from evaluators.recording import SMALL_RECORDING
from evaluators.token_selection.artefacts import SHIPPED, WEIGHTS, artefacts_of, files_beside, learnt
from evaluators.token_selection.calibrate import ARTEFACTS, hash_attention, retrieval_heads
from evaluators.token_selection.turns import Build
from evaluators.token_selection.workloads import dense_bytes, open_workload
from evolve.problems import task_of
from sandbox.task import Limits
from sandbox.worker import Worker

MOST_BYTES = 1_000_000  # of a file
LEARNS = """
import torch


class Policy:
    def calibrate(self, learnt):
        self.kept = {kept}

    def select(self, query, cache, budget, generator):
        tokens = torch.arange(cache.length - cache.affordable(budget), cache.length).expand(cache.heads, -1)
        return tokens, torch.ones(tokens.shape)
"""


@pytest.fixture(scope="module")
def worker():
    problem = get_problem("token_selection")
    worker = Worker(task_of(problem, problem.inputs(None)), Limits())
    yield worker
    worker.close()


@pytest.mark.parametrize("name", ARTEFACTS)
def test_what_ships_is_small_of_the_default_model_and_has_all_its_layers(name):
    path = SHIPPED / f"{name}.safetensors"
    assert path.stat().st_size <= MOST_BYTES
    with safe_open(path, "np") as file:
        assert file.metadata()[WEIGHTS] == GGUF_SHA256
        assert {int(key.split(".")[0]) for key in file.keys()} == set(range(30))  # noqa: SIM118


def test_a_policy_is_given_what_was_learnt_for_its_own_layer():
    workload = open_workload("search", SMALL_RECORDING)
    given = Build(workload, [(0, 2)]).answer("learnt", {"turn": np.array(0)})
    assert workload.numbers[2] == 27
    wanted = learnt(GGUF_SHA256, 27)
    assert given.keys() == wanted.keys() == {*hashing(), "loss", "copies"}
    assert all(np.array_equal(given[part], wanted[part]) for part in wanted)
    assert not np.array_equal(given["key_map"], learnt(GGUF_SHA256, 0)["key_map"])


def hashing() -> set[str]:
    return {"query_map", "query_shift", "key_map", "key_shift"}


def test_what_is_kept_of_it_is_charged_at_every_step(worker):
    costs = []
    for kept in ("0", 'learnt["key_map"]'):
        outcome = worker.run(LEARNS.format(kept=kept), "search")
        assert outcome.failure is None, outcome.message
        costs.append(outcome.value["metrics"]["index_traffic@10.0%"])
    workload = open_workload("search", SMALL_RECORDING)
    read = [(3 * 64 * 32 - 8) / dense_bytes(3, workload.length(step), 64) for step in range(2)]
    assert costs[1] - costs[0] == pytest.approx(np.mean(read))


def test_a_part_that_there_is_not_ends_as_a_failure(worker):
    outcome = worker.run(LEARNS.format(kept='learnt["wisdom"]'), "search")
    assert outcome.failure == "crash"
    assert "wisdom" in outcome.message


def test_nothing_is_learnt_for_an_unknown_model(monkeypatch, tmp_path):
    monkeypatch.setenv("KVOLVE_CACHE", str(tmp_path))
    assert artefacts_of("0" * 64) == ()
    with pytest.raises(CandidateError, match="Nothing has been learnt for this model"):
        learnt("0" * 64, 0)


def test_a_policy_that_learns_takes_its_files_along():
    assert [path.stem for path in files_beside(LEARNS, "full")] == sorted(ARTEFACTS)
    assert files_beside("class Policy:\n    pass\n", "full") == ()


def test_maps_learn_where_the_heavy_keys_are():
    """Queries attend by three hidden directions of 64; random signs see the other 61, too."""
    random = torch.Generator().manual_seed(0)
    hidden = torch.linalg.qr(torch.randn(64, 64, generator=random)).Q[:, :3]
    keys = torch.randn(1, 400, 64, generator=random)
    queries = torch.randn(2, 400, 3, generator=random) @ hidden.T * 6
    maps = hash_attention([(queries, keys, keys)], random, rounds=120)
    asked, at = queries[:, 300:].flatten(0, 1), keys[0, :280]
    heavy = (asked @ at.T).topk(30).indices

    def found(query_map: torch.Tensor, key_map: torch.Tensor) -> float:
        signs = (asked @ query_map).sign() @ (at @ key_map).sign().T
        hits = torch.zeros(signs.shape).scatter(1, heavy, 1).gather(1, signs.topk(30).indices)
        return float(hits.mean())

    drawn = torch.randn(64, 32, generator=random)
    assert found(maps["query_map"][0].float(), maps["key_map"][0].float()) > 1.5 * found(drawn, drawn)


def test_a_head_that_copies_retrieves_and_one_that_looks_near_does_not():
    random = torch.Generator().manual_seed(0)
    period, size = 128, 64
    words = torch.randn(period, size, generator=random)
    keys = torch.stack([words.repeat(4, 1), torch.zeros(4 * period, size)])  # [G, N, D]
    queries = torch.stack([words.repeat(4, 1) * 4, torch.zeros(4 * period, size)])
    found = retrieval_heads([(queries, keys, keys + 1)], (queries, keys, keys))
    assert found["copies"][0] > 0.7  # of four equal keys one is its own
    assert found["copies"][1] < 0.05
    assert found["loss"].shape == (2,)
