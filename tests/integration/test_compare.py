"""Comparing finished runs by the command that a user types."""

import json
import shutil

import pytest

from evaluators.recording import SMALL_RECORDING
from tests.integration.conftest import BEGUN, FEW, SMALL


@pytest.fixture(scope="module")
def others(finished):
    """Two runs beside the finished one: best of N with another seed, and one on another recording."""
    kvolve, _ = finished
    kvolve(
        "run",
        "token_selection",
        *SMALL,
        "--max-evaluations",
        11,
        "--seed",
        1,
        "--run-dir",
        "b",
        "--strategy",
        "best_of_n",
    )
    copy = kvolve.folder / "copy"
    shutil.copytree(SMALL_RECORDING, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").chmod(0o644)
    (copy / "manifest.json").write_text(json.dumps(manifest | {"note": "another one"}))
    kvolve(
        "run",
        "token_selection",
        "--recording",
        "copy",
        *FEW,
        "--max-evaluations",
        BEGUN,
        "--run-dir",
        "c",
    )
    return kvolve


def test_two_runs_stand_side_by_side_with_the_lead_of_the_first(others):
    found = json.loads(others("compare", "run", "b", "--json"))
    (first,), (second,) = found["first"], found["second"]
    assert (first["evaluations"], second["evaluations"]) == (60, 11)
    assert found["difference"] == pytest.approx(first["validation"] - second["validation"])
    assert found["over"] == "contexts"
    assert first["validation"] == others.inspect("run")["champion"]["validation"]
    assert first["coverage"] == others.inspect("run")["coverage"]
    assert first["time_s"] > 0
    text = others("compare", "run", "b")
    assert "A minus B" in text


def test_several_runs_a_side_have_an_interval_over_runs(others):
    found = json.loads(others("compare", "run", "b", "--with", "b", "run", "--json"))
    assert found["over"] == "runs"
    assert found["difference"] == pytest.approx(0)
    low, high = found["interval"]
    assert low <= 0 <= high


def test_a_run_equals_itself(others):
    assert json.loads(others("compare", "run", "run", "--json"))["difference"] == 0


def test_runs_on_different_splits_are_refused(others):
    assert "different validation splits" in others("compare", "run", "c", code=2)


@pytest.mark.parametrize("runs", [["run"], ["run", "b", "run"], ["run", "--with"], ["--with", "run"]])
def test_runs_that_make_no_two_sides_are_refused(others, runs):
    assert "--with" in others("compare", *runs, code=2)


def test_a_missing_run_is_said(others):
    assert "no run at 'nowhere'" in others("compare", "run", "nowhere", code=2)
