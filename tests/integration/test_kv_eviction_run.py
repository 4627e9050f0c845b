"""KV-cache eviction, from `kvolve run` to an exported policy that runs alone."""

import json
import subprocess
import sys

import pytest

from evaluators.problem import get_problem
from kvolve import cache_folder

pytestmark = pytest.mark.weights
SEEDS = ("streaming_llm", "zipcache", "adakv", "h2o")
ALONE = """
import sys; sys.path.insert(0, sys.argv[1])
import torch, policy
n, torch_seed = 300, torch.manual_seed(0)
layer = policy.Layer(
    keys=torch.randn(2, n, 16), values=torch.randn(2, n, 16), positions=torch.arange(n).expand(2, -1),
    queries=torch.randn(4, 64, 16), query_mean=torch.zeros(4, 16),
    query_covariance=torch.eye(16).expand(4, 16, 16), index=0, layers=3, length=n,
)
decides = policy.Policy()
layer.received = layer.frequent = torch.rand(2, n)
if hasattr(decides, "observe"):
    layer.state = decides.observe(layer)
print(tuple(decides.score(layer).shape))
"""


@pytest.fixture
def kvolve(kvolve):
    """With the cache of the whole session: its weights and contexts."""
    kvolve.environment["KVOLVE_CACHE"] = str(cache_folder())
    return kvolve


def test_a_run_is_inspected_and_its_champion_exported(kvolve, tmp_path):
    run = tmp_path / "run"
    flags = ("--recording", "small", "--start-with", ",".join(SEEDS), "--max-evaluations", 9)
    kvolve("run", "kv_eviction", *flags, "--run-dir", run)
    found = kvolve.inspect(run)
    assert (found["problem"], found["evaluations"]) == ("kv_eviction", 9)
    seeds = {seed["name"]: seed["score"] for seed in found["seeds"]}
    assert set(seeds) == set(SEEDS)
    assert found["best"]["score"] >= max(seeds.values())
    assert found["bounds"][0]["name"] == "oracle"
    assert found["champion"]["holdout"] is not None

    kvolve("export", run, "champion", "--to", "library", "--library", tmp_path / "library")
    (folder,) = (tmp_path / "library").iterdir()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["candidate"]["hash"] == found["champion"]["hash"]
    alone = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(folder)], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.strip() == "(2, 300)"


def test_the_problem_is_shown_with_its_seeds(kvolve):
    shown = kvolve("problems", "kv_eviction")
    assert "# kv_eviction" in shown
    assert all(seed.name in shown for seed in get_problem("kv_eviction").seeds())


def test_what_cannot_be_read_is_said_in_a_sentence(kvolve, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("Too short. " * 40)
    for flags, said in (
        (("--model", tmp_path / "none.gguf"), "There is no model"),
        (("--text", tmp_path / "none.txt"), "cannot be read"),
        (("--text", short, "--text", tmp_path / "none.txt"), "cannot be read"),
        (("--text", short), "tokens"),
        (("--prefill", 100), "256 tokens"),
        (("--recording", tmp_path), "There are no contexts"),
        (("--recording", tmp_path, "--prefill", 512), "made already"),
    ):
        assert said in kvolve("run", "kv_eviction", *flags, "--run-dir", tmp_path / "run", code=2)
    said = kvolve("run", "token_selection", "--model", "a/b", "--run-dir", tmp_path / "run", code=2)
    assert "token_selection takes no --model" in said
    assert not (tmp_path / "run").exists()
