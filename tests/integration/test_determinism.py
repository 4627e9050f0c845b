"""Same settings and same seed give the same archive, whatever happens in between."""

import os
import signal
import time
from pathlib import Path

import pytest

from database.archive import Archive
from evolve.workspace import place_of
from kvolve import KvolveError
from tests.integration.conftest import SMALL, Command
from tests.llm.policies import policies
from tests.llm.server import Server

ARGUMENTS = ("run", "token_selection", *SMALL, "--max-evaluations", 29, "--seed", 3)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    kvolve = Command(tmp_path_factory.mktemp("undisturbed"))
    kvolve(*ARGUMENTS, "--run-dir", "run", "--workers", 2)
    return kvolve("inspect", "run", "--hash").strip()


def completed(folder) -> int:
    """Results that a running run has stored; 0 while it has no archive."""
    try:
        archive = Archive.open(place_of(folder), read_only=True)
    except KvolveError:  # not there yet, or just being made
        return 0
    try:
        return archive.completed()
    finally:
        archive.close()


def wait_for(folder, results: int, process) -> None:
    deadline = time.monotonic() + 120
    while completed(folder) < results:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)  # polls another process: there is nothing to wait on


def test_one_worker_makes_the_same_archive_as_two(kvolve, undisturbed):
    kvolve(*ARGUMENTS, "--run-dir", "run", "--workers", 1)
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed


def test_a_ray_cluster_makes_the_same_archive_as_local_workers(kvolve, undisturbed):
    kvolve(*ARGUMENTS, "--run-dir", "run", "--pool", "ray")
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed


def kill_three_times(kvolve, *arguments) -> None:
    """Makes a run that is killed after 3, 10 and 20 results, and resumed each time."""
    for results in (3, 10, 20):
        exists = (kvolve.folder / "run").exists()
        process = kvolve.start("resume", "run") if exists else kvolve.start(*arguments, "--run-dir", "run")
        wait_for(kvolve.folder / "run", results, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert results <= completed(kvolve.folder / "run") < 29
    kvolve("resume", "run")
    assert kvolve.inspect("run")["evaluations"] == 29


@pytest.mark.parametrize("pool", [("--workers", 4), ("--pool", "ray")])
def test_a_run_killed_and_resumed_three_times_makes_the_same_archive(kvolve, undisturbed, pool):
    kill_three_times(kvolve, *ARGUMENTS, *pool)
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, str]:
    """A run whose proposals came from a model, and its hash."""
    kvolve = Command(tmp_path_factory.mktemp("recorded"))
    with Server() as server:
        server.usual = policies
        kvolve.environment |= {"KVOLVE_LLM_BASE_URL": server.url, "KVOLVE_LLM_MODEL": "loopback"}
        kvolve(*ARGUMENTS, "--proposer", "llm", "--run-dir", "run")
    return kvolve.folder / "run", kvolve("inspect", "run", "--hash").strip()


def test_the_replay_of_a_transcript_makes_the_same_archive(kvolve, recorded):
    run, wanted = recorded
    replay = ("--proposer", f"replay:{run}", "--workers", 1, "--run-dir", "run")
    kvolve("run", "token_selection", *replay)
    assert kvolve("inspect", "run", "--hash").strip() == wanted
    assert kvolve.inspect("run")["cost"] == kvolve.inspect(run)["cost"]


def test_a_replay_killed_and_resumed_three_times_makes_the_same_archive(kvolve, recorded):
    run, wanted = recorded
    kill_three_times(kvolve, "run", "token_selection", "--proposer", f"replay:{run}")
    assert kvolve("inspect", "run", "--hash").strip() == wanted


def test_another_seed_makes_another_archive(kvolve, undisturbed):
    kvolve(*ARGUMENTS[:-1], 4, "--run-dir", "run")
    assert kvolve("inspect", "run", "--hash").strip() != undisturbed


def test_ctrl_c_keeps_what_was_found_and_says_how_to_go_on(kvolve, undisturbed):
    process = kvolve.start(*ARGUMENTS, "--run-dir", "run", "--workers", 2)
    wait_for(kvolve.folder / "run", 14, process)
    os.kill(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "kvolve resume run" in text
    assert completed(kvolve.folder / "run") >= 14
    kvolve("resume", "run")
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed
