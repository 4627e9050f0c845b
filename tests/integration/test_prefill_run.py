"""Prefill selection, from `kvolve run` to an exported policy that runs alone."""

import json
import subprocess
import sys

from evaluators.problem import get_problem

ALONE = """
import sys; sys.path.insert(0, sys.argv[1])
import torch, policy
queries, keys = torch.randn(4, 512, 16), torch.randn(2, 512, 16)
decides = policy.Policy()
if hasattr(decides, "observe"):
    decides.observe(policy.Block(queries[:, 448:], keys, 448), 0.5)
block = policy.Block(queries[:, 256:320], keys, 256)
columns = decides.select(block, 0.5, torch.Generator().manual_seed(0))
print(tuple(columns.shape), columns.dtype)
"""


def test_a_run_is_inspected_and_its_champion_exported(kvolve, tmp_path):
    run = tmp_path / "run"
    kvolve("run", "prefill_selection", "--recording", "small", "--max-evaluations", 12, "--run-dir", run)
    found = kvolve.inspect(run)
    assert (found["problem"], found["evaluations"]) == ("prefill_selection", 12)
    seeds = {seed["name"]: seed["score"] for seed in found["seeds"]}
    roles = {seed.name: seed.role for seed in get_problem("prefill_selection").seeds()}
    assert set(seeds) == {name for name, role in roles.items() if role != "bound"}
    assert found["best"]["score"] >= max(seeds.values())
    assert len(found["bounds"]) == 2
    assert found["champion"]["holdout"] is not None

    kvolve("export", run, "champion", "--to", "library", "--library", tmp_path / "library")
    (folder,) = (tmp_path / "library").iterdir()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["candidate"]["hash"] == found["champion"]["hash"]
    alone = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(folder)], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.split("\n")[0] == "(4, 320) torch.bool"


def test_the_problem_is_shown_with_its_seeds(kvolve):
    shown = kvolve("problems", "prefill_selection")
    assert "# prefill_selection" in shown
    assert all(seed.name in shown for seed in get_problem("prefill_selection").seeds())
