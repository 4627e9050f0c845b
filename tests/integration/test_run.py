"""A run from its first seed to its export, by the command that a user types."""

import ast
import json
import subprocess
import sys

import pytest

from database.archive import Archive
from evaluators.problem import get_problem
from evolve.workspace import place_of
from tests.integration.conftest import NAMES, SMALL

PROBLEM = get_problem("token_selection")


def test_a_run_reports_seeds_bounds_champion_and_holdout(finished):
    kvolve, run = finished
    found = kvolve.inspect(run)
    assert found["problem"] == "token_selection"
    assert found["evaluations"] == 60
    assert {seed["name"] for seed in found["seeds"]} == {s.name for s in PROBLEM.seeds() if s.role != "bound"}
    assert {bound["name"] for bound in found["bounds"]} == set(PROBLEM.bounds)
    assert all(entry["score"] is not None for entry in found["seeds"] + found["bounds"])
    assert found["best"]["score"] >= max(seed["score"] for seed in found["seeds"])
    assert found["champion"]["validation"] is not None
    assert found["champion"]["holdout"] is not None
    assert 0 < found["coverage"] <= 1
    assert sum(operator["proposals"] for operator in found["operators"].values()) == 60


def test_finals_are_held_by_the_best_seeds_the_floors_and_all_bounds(finished):
    kvolve, run = finished
    found = kvolve.inspect(run)
    archive = Archive.open(place_of(run), read_only=True)
    measured = {archive.candidate(one.hash).proposal.detail for one in archive.measured("validation")}
    seeds = [seed["name"] for seed in sorted(found["seeds"], key=lambda seed: -seed["score"])]
    assert measured & set(seeds) == set(seeds[:8]) | set(PROBLEM.floors)
    assert set(PROBLEM.bounds) <= measured


def test_most_proposals_of_the_builtin_proposer_run(finished):
    kvolve, run = finished
    found = kvolve.inspect(run)
    proposed = 60 - len(PROBLEM.seeds())
    assert sum(found["failures"].values()) <= 0.3 * proposed


def test_one_candidate_is_shown_with_lineage_and_difference(finished):
    kvolve, run = finished
    best = kvolve.inspect(run)["best"]["hash"]
    found = json.loads(kvolve("inspect", run, best[:10], "--json"))
    assert found["hash"] == best
    assert found["lineage"][-1]["operator"] == "seed"
    assert {"error@2.5%", "error@20.0%", "worst_layer_error"} <= found["stages"]["search"]["metrics"].keys()
    text = kvolve("inspect", run, best[:10])
    assert "lineage" in text
    if found["parents"]:
        assert "+++" in text


def test_the_holdout_is_opened_once(finished):
    kvolve, run = finished
    before = kvolve.inspect(run)
    kvolve("resume", run)
    assert kvolve.inspect(run) == before


def test_an_exported_champion_runs_alone_and_says_where_it_comes_from(finished, tmp_path):
    kvolve, run = finished
    kvolve("export", run, "champion", "--to", "library", "--library", tmp_path)
    (folder,) = tmp_path.iterdir()
    provenance = json.loads((folder / "provenance.json").read_text())
    found = kvolve.inspect(run)
    assert provenance["champion"]
    assert provenance["candidate"]["hash"] == found["champion"]["hash"]
    assert provenance["run"]["archive_hash"] == found["hash"]
    source = (folder / "policy.py").read_text()
    imported = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert imported <= {"torch", "math"}
    program = """
import pathlib, sys; sys.path.insert(0, sys.argv[1])
import torch, policy
keys, values = torch.randn(2, 3, 500, 64)
chosen = policy.Policy()
if hasattr(chosen, "calibrate"):
    from safetensors.torch import load_file
    learnt = {}
    for file in pathlib.Path(sys.argv[1]).glob("*.safetensors"):
        learnt |= {name[2:]: part for name, part in load_file(file).items() if name.startswith("9.")}
    chosen.calibrate(learnt)
if hasattr(chosen, "prefill"):
    chosen.prefill(keys)
if hasattr(chosen, "observe"):
    chosen.observe(torch.randn(9, 20, 64), torch.arange(480, 500), keys)
cache = policy.Cache(keys, values, 9)
tokens, p = chosen.select(torch.randn(9, 64), cache, 0.2, torch.Generator().manual_seed(0))
print(tokens.shape[0], bool((p > 0).all()))
"""
    alone = subprocess.run(
        [sys.executable, "-I", "-c", program, str(folder)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert alone.stdout.strip() == "9 True", alone.stderr


def test_exporting_twice_overwrites_nothing(finished, tmp_path):
    kvolve, run = finished
    kvolve("export", run, "champion", "--library", tmp_path)
    assert "exists already" in kvolve("export", run, "champion", "--library", tmp_path, code=2)


def test_a_run_shows_its_progress_line_by_line_without_a_terminal(kvolve):
    text = kvolve("run", "token_selection", *SMALL, "--max-evaluations", 9, "--run-dir", "r")
    assert "best" in text
    assert "holdout, opened once" in text
    assert "export r champion" in text


def test_a_run_may_begin_with_some_seeds_only(kvolve):
    kvolve("run", "token_selection", *SMALL, "--max-evaluations", 8, "--run-dir", "r")
    found = kvolve.inspect("r")
    assert sorted(seed["name"] for seed in found["seeds"]) == NAMES.split(",")
    assert {bound["name"] for bound in found["bounds"]} == set(PROBLEM.bounds)
    message = kvolve("run", "token_selection", "--start-with", "quest,magic", code=2)
    assert "token_selection has no seed 'magic'; it has a2ats, double_sparsity" in message


def test_without_a_network_a_run_says_so_and_uses_the_small_recording(kvolve):
    kvolve.environment |= {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_RETRIES": "0",
        "PIP_NO_CACHE_DIR": "1",
    }
    text = kvolve("run", "token_selection", "--max-evaluations", 1, "--run-dir", "r")
    assert "Going on with the small one" in text
    assert "2 contexts of 992 tokens" in text


def test_problems_and_doctor_answer(kvolve):
    assert "token_selection" in kvolve("problems")
    described = json.loads(kvolve("problems", "token_selection", "--json"))
    assert described["seeds"]["quest"]["title"].startswith("Quest")
    findings = {finding["name"]: finding["ok"] for finding in json.loads(kvolve("doctor", "--json"))}
    assert findings["recording: small"]
    assert any(name.startswith("sandbox: ") for name in findings)


@pytest.mark.parametrize(
    "command", ["run", "resume", "inspect", "compare", "problems", "record", "doctor", "export"]
)
def test_every_command_has_help_with_an_example(kvolve, command):
    assert f"Example: kvolve {command}" in kvolve(command, "--help")
