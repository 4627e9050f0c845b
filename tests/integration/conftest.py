"""Real runs of the real command on the small recording, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KVOLVE = str(Path(sys.executable).parent / "kvolve")
NAMES = "quest,simhash,sparq_sampled,streaming_llm"
FEW = ("--start-with", NAMES)
SMALL = ("--recording", "small", *FEW)  # a run that is soon done
BEGUN = 7  # the seeds and bounds of such a run


class Command:
    """Calls `kvolve` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"KVOLVE_CACHE": str(folder / "cache")}

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Standard output of a call that has to end with exit code `code`; for code 2 the error message."""
        done = subprocess.run(
            [KVOLVE, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        if code == 2:
            assert "Traceback" not in done.stderr
            assert done.stdout.strip() == "" or "small" in done.stdout
            return done.stderr
        return done.stdout

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [KVOLVE, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def inspect(self, run: object) -> dict:
        return json.loads(self("inspect", run, "--json"))


@pytest.fixture
def kvolve(tmp_path) -> Command:
    return Command(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Command, Path]:
    """A finished run of 60 proposals on the small recording."""
    command = Command(tmp_path_factory.mktemp("finished"))
    run = command.folder / "run"
    command("run", "token_selection", "--recording", "small", "--run-dir", run, "--max-evaluations", 60)
    return command, run
