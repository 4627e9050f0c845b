"""Runs of the real command that lose a worker, a node or their driver end as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import Command
from tests.integration.test_determinism import completed, wait_for

RESULTS = 17
PRESET = f"""
problem = "token_selection"
recording = "small"
start_with = ["quest", "simhash", "sparq_sampled", "streaming_llm"]
max_evaluations = {RESULTS}
finalists = 1
seed = 5
"""
ARGUMENTS = ("run", "preset.toml", "--run-dir", "run")


def command(folder: Path) -> Command:
    (folder / "preset.toml").write_text(PRESET)
    return Command(folder)


@pytest.fixture
def kvolve(tmp_path) -> Command:
    return command(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    kvolve = command(tmp_path_factory.mktemp("undisturbed"))
    kvolve(*ARGUMENTS)
    return kvolve("inspect", "run", "--hash").strip()


def workers(driver: int) -> list[int]:
    """Process ids of a driver's sandbox workers."""
    below = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    return [int(pid) for pid in below if b"sandbox.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def assert_as_undisturbed(kvolve: Command, undisturbed: str) -> None:
    found = kvolve.inspect("run")
    assert found["evaluations"] == RESULTS
    assert not {"sandbox", "timeout"} & set(found["failures"])
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed


def test_killed_workers_zygotes_and_driver_cost_nothing(kvolve, undisturbed):
    run = kvolve.start(*ARGUMENTS)
    for results in (3, 9):  # among the seeds, and in the search
        wait_for(kvolve.folder / "run", results, run)
        killed, other = workers(run.pid)
        os.kill(killed, signal.SIGKILL)
        for zygote in Path(f"/proc/{other}/task/{other}/children").read_text().split():
            os.kill(int(zygote), signal.SIGKILL)
    wait_for(kvolve.folder / "run", 12, run)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert 12 <= completed(kvolve.folder / "run") < RESULTS
    kvolve("resume", "run")
    assert_as_undisturbed(kvolve, undisturbed)


def test_node_removed_in_the_middle_of_a_run_costs_nothing(kvolve, undisturbed):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        gone, _ = (cluster.add_node(num_cpus=1) for _ in range(2))
        joined = ("--pool", "ray", "--ray-address", cluster.address)
        run = kvolve.start(*ARGUMENTS, *joined)
        wait_for(kvolve.folder / "run", 5, run)
        cluster.remove_node(gone)
        assert run.wait(timeout=120) == 0, run.stdout.read()
    finally:
        cluster.shutdown()
    assert_as_undisturbed(kvolve, undisturbed)
