"""A run whose archive is at a PostgreSQL server is the run that it would be in a file."""

import signal

from tests.integration.conftest import SMALL
from tests.integration.test_determinism import completed, wait_for

ARGUMENTS = ("run", "token_selection", *SMALL, "--max-evaluations", 14, "--seed", 3)


def test_a_killed_and_resumed_run_at_postgresql_is_that_of_a_file(kvolve, postgresql):
    kvolve(*ARGUMENTS, "--run-dir", "file")
    process = kvolve.start(*ARGUMENTS, "--run-dir", "server", "--database", postgresql)
    wait_for(kvolve.folder / "server", 5, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= completed(kvolve.folder / "server") < 14
    kvolve("resume", "server")
    assert kvolve.inspect("server")["evaluations"] == 14
    assert kvolve("inspect", "server", "--hash") == kvolve("inspect", "file", "--hash")
    assert "server" in kvolve("compare", "server", "file")
    assert not (kvolve.folder / "server" / "archive.db").exists()


def test_a_preset_may_name_the_database_and_two_runs_of_one_name_do_not_mix(kvolve, postgresql):
    preset = f'problem = "token_selection"\nrecording = "small"\ndatabase = "{postgresql}"\n'
    (kvolve.folder / "mine.toml").write_text(preset)
    kvolve("run", "mine.toml", "--max-evaluations", 1, "--run-dir", "a/mine")
    assert kvolve.inspect("a/mine")["evaluations"] == 1
    refusal = kvolve("run", "mine.toml", "--run-dir", "b/mine", code=2)
    assert "schema=kvolve_mine exists already" in refusal
    assert "holds a run already" in kvolve("run", "mine.toml", "--run-dir", "a/mine", code=2)


def test_a_server_out_of_reach_leaves_no_run_behind(kvolve):
    place = ("--run-dir", "r", "--database", "postgresql://me:secret@127.0.0.1:1/name")
    refusal = kvolve(*ARGUMENTS, *place, code=2)
    assert "cannot be reached" in refusal
    assert "secret" not in refusal
    assert "There is no run" in kvolve("inspect", "r", code=2)
