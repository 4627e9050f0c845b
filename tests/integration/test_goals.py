"""`verified_selection` from the command line: goals, a run, and an exported policy that runs alone."""

import subprocess
import sys

import pytest


def test_a_run_guarantees_what_was_asked_for_and_its_champion_runs_alone(kvolve, tmp_path):
    run = tmp_path / "run"
    goals = ("--goal", "0.3,0.2,denominator", "--goal", "0.2,0.2,denominator")
    asked = ("--recording", "small", "--start-with", "dense,ratio,low_bit", "--max-evaluations", 8)
    kvolve("run", "verified_selection", *goals, *asked, "--run-dir", run)
    found = kvolve.inspect(run)
    assert {seed["name"] for seed in found["seeds"]} == {"dense", "ratio", "low_bit"}
    assert {bound["name"] for bound in found["bounds"]} == {"oracle_ratio", "oracle_top_k"}
    shown = kvolve("inspect", run, found["champion"]["hash"])
    assert "denominator" in shown
    assert "0.3,0.2" in shown
    assert "heads_above" in shown

    kvolve("resume", run, "--max-evaluations", 9)
    assert kvolve.inspect(run)["evaluations"] == 9

    kvolve("export", run, "champion", "--to", "library", "--library", tmp_path / "library")
    (folder,) = (tmp_path / "library").iterdir()
    program = """
import sys; sys.path.insert(0, sys.argv[1])
import torch, policy
keys = torch.randn(3, 600, 64, generator=torch.Generator().manual_seed(0))
cache = policy.Cache(keys, keys, 9)
chosen = policy.Policy()
if hasattr(chosen, "calibrate"):
    maps, shifts = torch.zeros(3, 64, 32, dtype=torch.int8), torch.ones(3, 1, 32)
    chosen.calibrate({"query_map": maps, "query_shift": shifts, "key_map": maps, "key_shift": shifts})
if hasattr(chosen, "prefill"):
    chosen.prefill(keys)
goal = policy.Goal(0.3, 0.2, "denominator")
tokens, p = chosen.select(torch.randn(9, 64), cache, goal, torch.Generator().manual_seed(0))
print("heads:", len(tokens))
"""
    alone = subprocess.run(
        [sys.executable, "-I", "-c", program, str(folder)], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 0, alone.stderr
    assert "heads: 9" in alone.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verified_selection", "--goal", "0.1"], "'0.1' is not EPSILON,DELTA"),
        (["verified_selection", "--goal", "0.1,0.1", "--goal", "0.1,0.1"], "twice"),
        (["token_selection", "--goal", "0.1,0.1"], "token_selection has no goals"),
        (["verified_selection", "--goal", "0.1,0.1,mean"], "quantities are output, numerator, denominator"),
    ],
)
def test_a_goal_that_cannot_be_is_told_in_a_sentence(kvolve, arguments, told):
    assert told in kvolve("run", *arguments, "--recording", "small", code=2)


def test_the_goal_is_part_of_what_a_problem_shows(kvolve):
    shown = kvolve("problems", "verified_selection")
    assert "goal.epsilon" in shown
    assert "lemma (seed)" in shown
