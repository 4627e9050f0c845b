"""The audit finds what was planted in weak evaluators; in honest ones and kvolve's problems, nothing."""

import json
import shutil
import socketserver
import threading
from pathlib import Path

import pytest

from evolve.audit.attacks import KINDS
from evolve.audit.trying import script_bench
from evolve.settings import make_settings
from tests.integration.conftest import kvolve  # noqa: F401  a fixture

HERE = Path(__file__).parent
# weak evaluator -> kind of its hole, and whether a candidate in a process of its own could use it
PLANTED = {
    "constant_output": ("constant output", True),
    "empty_result": ("empty result", True),
    "failed_cases": ("exception on hard cases", True),
    "trusted_makespan": ("value taken on trust", True),
    "unchecked_copies": ("unchecked copies or indices", True),
    "memoised_output": ("memoised output", True),
    "input_mutation": ("input mutation", False),
    "module_patching": ("module patching", False),
    "stopped_clock": ("timing trick", False),
    "custom_numbers": ("NaN, infinity or a custom number", False),
    "nan_passes": ("NaN, infinity or a custom number", True),
    "expected_answers": ("reading of expected answers", False),
    "data_file": ("reading of expected answers", False),
}
HONEST = sorted(path.name for path in (HERE / "honest").iterdir() if path.is_dir())
CASES = ("moe_load_balance", "model_placement", "spot_scheduling", "transaction_scheduling", "llm_sql")


def test_every_kind_of_attack_has_a_weak_evaluator():
    assert {kind for kind, _ in PLANTED.values()} == {kind.name for kind in KINDS}
    assert {path.name for path in (HERE / "weak").iterdir() if path.is_dir()} == set(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_hole_is_found(kvolve, name):  # noqa: F811
    kind, usable = PLANTED[name]
    folder = HERE / "weak" / name
    data = [file for file in folder.iterdir() if file.suffix == ".json"]
    flags = [flag for file in data for flag in ("--data", file)]
    told = json.loads(kvolve("audit", folder / "evaluator.py", *flags, "--json", code=1))
    holes = {hole["kind"]: hole for hole in told["holes"]}
    hole = holes[kind]
    assert hole["score"] > told["honest"] == hole["honest"]
    assert hole["stopped"] is not usable
    assert hole["check"] == next(each.advice for each in KINDS if each.name == kind)
    settings = make_settings(
        {
            "problem": "script",
            "initial": str(folder / "initial_program.py"),
            "evaluator": str(folder / "evaluator.py"),
            "data": list(map(str, data)),
        }
    )
    with script_bench(settings, 1) as bench:  # what is shown is the program that pays
        bench.settle((folder / "initial_program.py").read_text())
        assert bench.pays(bench.score(hole["program"]))


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_evaluator_has_no_hole(kvolve, name):  # noqa: F811
    folder = HERE / "honest" / name
    said = kvolve("audit", folder / "evaluator.py", folder / "initial_program.py")
    assert "No attempt pays" in said
    assert "HOLE" not in said


@pytest.mark.parametrize("name", CASES)
def test_a_problem_of_kvolve_has_no_hole(kvolve, name):  # noqa: F811
    told = json.loads(kvolve("audit", name, "--json"))
    assert told["holes"] == []
    assert told["attempts"] > 10
    assert told["refused"] > 0


def test_a_person_is_told_the_program_and_what_to_check(kvolve):  # noqa: F811
    said = kvolve("audit", HERE / "weak" / "empty_result" / "evaluator.py", code=1)
    assert "HOLE: empty result. It scores 1, the honest program 0.233333." in said
    assert "    | def pack(*args, **kwargs):\n    |     return []" in said
    assert "Check instead: Check that the answer covers the whole input" in said
    assert "A run does not stop it." in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.py"], "there is no"),
        (["alchemy"], "no problem 'alchemy'"),
        (["model_placement", "initial_program.py"], "is no EVALUATOR.py"),
        (["token_selection"], "cannot be audited"),
    ],
)
def test_bad_usage_is_told_in_a_sentence(kvolve, arguments, told):  # noqa: F811
    assert told in kvolve("audit", *arguments, code=2)


def test_an_initial_program_without_a_score_is_bad_usage(kvolve):  # noqa: F811
    program = kvolve.folder / "broken.py"
    program.write_text("raise ValueError('nothing to see')\n")
    error = kvolve("audit", HERE / "honest" / "roots" / "evaluator.py", program, code=2)
    assert "gets no score" in error


def test_an_evaluator_that_needs_the_network_is_audited_with_it(kvolve):  # noqa: F811
    folder = kvolve.folder / "online"
    shutil.copytree(HERE / "honest" / "roots", folder)
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.StreamRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        honest = (folder / "evaluator.py").read_text()
        asks = f"import socket\n\nsocket.create_connection({server.server_address!r}, 5).close()\n"
        (folder / "evaluator.py").write_text(asks + honest)
        assert "gets no score" in kvolve("audit", folder / "evaluator.py", code=2)
        kvolve("audit", folder / "evaluator.py", "--network")
        server.shutdown()
