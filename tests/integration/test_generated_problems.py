"""Problems with generated workloads, from `kvolve run` to an exported program that runs alone."""

import json
import subprocess
import sys

import pytest

from evaluators.problem import get_problem

CALLS = {
    "model_placement": "program.place(np.array([3.0, 1.0]), np.array([2.0, 14.0]), 2, 80.0)",
    "transaction_scheduling": "program.schedule(np.array([[0, -1], [0, 1]]), np.array([[1, 0], [0, 1]]) > 0)",
}


@pytest.mark.parametrize("name", CALLS)
def test_a_run_is_inspected_and_its_champion_exported(kvolve, tmp_path, name):
    problem = get_problem(name)
    run = tmp_path / "run"
    kvolve("run", name, "--max-evaluations", 12, "--seed", 1, "--run-dir", run)
    found = kvolve.inspect(run)
    assert (found["problem"], found["evaluations"]) == (name, 12)
    seeds = {seed["name"]: seed["score"] for seed in found["seeds"]}
    assert set(seeds) == {seed.name for seed in problem.seeds() if seed.role != "bound"}
    assert found["best"]["score"] >= max(seeds.values())
    (bound,) = found["bounds"]
    assert bound["score"] == 1
    assert found["champion"]["holdout"] is not None

    kvolve("export", run, "champion", "--to", "library", "--library", tmp_path / "library")
    (folder,) = (tmp_path / "library").iterdir()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["candidate"]["hash"] == found["champion"]["hash"]
    program = f"""
import sys; sys.path.insert(0, sys.argv[1])
import numpy as np, program
print({CALLS[name]})
"""
    alone = subprocess.run(
        [sys.executable, "-I", "-c", program, str(folder)], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    assert "0" in alone.stdout


@pytest.mark.parametrize("name", CALLS)
def test_a_problem_is_shown_with_its_seeds(kvolve, name):
    shown = kvolve("problems", name)
    assert f"# {name}" in shown
    assert all(seed.name in shown for seed in get_problem(name).seeds())
