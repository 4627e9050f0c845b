"""Kills a run at random moments: `kills.py [--kills K] [--evaluations N] [--seed S]`.

The run is a real one on the small recording with two workers, in a process of its own that gets SIGKILL K
times and is resumed each time. Its pool notes every search that it is asked for and every result that
arrives. Prints what was lost and what was done twice, and whether the archive equals that of an undisturbed
run.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from rich.console import Console

from database.archive import Archive
from database.connection import archive_url
from database.records import candidate_hash
from evolve import run
from evolve.settings import make_settings
from evolve.view import View
from kvolve import KvolveError
from sandbox.pool import Pool
from sandbox.task import Outcome


class NotingPool:
    """Passes everything on to a real pool; notes each first search and the arrival of its result."""

    def __init__(self, pool: Pool, notes: Path) -> None:
        self.pool = pool
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def submit(self, source: str, stage: str, sample: int = 0) -> asyncio.Future[Outcome]:
        future = self.pool.submit(source, stage, sample)
        if stage == "search" and not sample:
            self._note("asked", source)
            future.add_done_callback(lambda done: done.cancelled() or self._note("arrived", source))
        return future

    def _note(self, what: str, source: str) -> None:
        os.write(self.notes, f"{os.getpid()} {what} {candidate_hash(source)}\n".encode())

    async def close(self) -> None:
        await self.pool.close()


def drive(directory: Path, evaluations: int) -> None:
    """One life of the run: its beginning, or a resumption."""
    opened = run.open_pool

    async def open_pool(*arguments: object) -> NotingPool:
        return NotingPool(await opened(*arguments), directory.parent / "notes")  # type: ignore[arg-type]

    run.open_pool = open_pool  # type: ignore[assignment]
    view = View(Console(), plain=True)
    if (directory / "archive.db").exists():
        run.resume(directory, {}, view)
    else:
        given = {"problem": "token_selection", "recording": "small", "max_evaluations": evaluations}
        run.start(make_settings(given), directory, view)


def start(directory: Path, evaluations: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--drive", str(directory), "--evaluations", str(evaluations)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def stored(directory: Path) -> tuple[set[str], str]:
    """Candidates whose results are in the archive, waiting ones among them, and the content hash."""
    try:
        archive = Archive.open(archive_url(directory / "archive.db"), read_only=True)
    except KvolveError:  # killed before it was made
        return set(), ""
    pending = {proposal.number: candidate_hash(proposal.source) for proposal in archive.pending()}
    waiting = {pending[number] for number in archive.kept_results()}
    completed = {step.hash for step in archive.steps()}
    found = completed | waiting, archive.content_hash()
    archive.close()
    return found


def notes(directory: Path) -> list[tuple[str, str, str]]:
    """All that the pools of all lives have noted: process, what, candidate."""
    path = directory.parent / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(line.split()) for line in lines]  # type: ignore[misc]


def undisturbed(directory: Path, evaluations: int) -> tuple[str, float]:
    begin = time.monotonic()
    directory.parent.mkdir()
    if start(directory, evaluations).wait():
        raise SystemExit("the undisturbed run failed")
    return stored(directory)[1], time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description="Kills a run at random moments.")
    parser.add_argument("--kills", type=int, default=20, metavar="K")
    parser.add_argument("--evaluations", type=int, default=400, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(given.drive, given.evaluations)
        return
    moments = random.Random(given.seed)
    with TemporaryDirectory() as folder:
        wanted, took_s = undisturbed(Path(folder) / "straight" / "run", given.evaluations)
        directory = Path(folder) / "killed" / "run"
        directory.parent.mkdir()
        lost = repeated = unstored = 0
        kept: set[str] = set()
        for _ in range(given.kills):
            process, known, before = start(directory, given.evaluations), kept, len(notes(directory))
            # a start takes about 3 s; the lives together take about as long as the undisturbed run
            time.sleep(moments.uniform(0, 6 + 2 * took_s / given.kills))
            process.send_signal(signal.SIGKILL)
            process.wait()
            kept, _ = stored(directory)
            lost += len(known - kept)
            life = notes(directory)[before:]
            repeated += sum(what == "asked" and hash in known for _, what, hash in life)
            unstored += sum(what == "arrived" and hash not in kept for _, what, hash in life)
        killed_at = len(kept)
        process, known, before = start(directory, given.evaluations), kept, len(notes(directory))
        if process.wait():
            raise SystemExit("the last resumption failed")
        kept, found = stored(directory)
        lost += len(known - kept)
        repeated += sum(what == "asked" and hash in known for _, what, hash in notes(directory)[before:])
    print(f"SIGKILLs                                       {given.kills:6}")
    print(f"candidates with results after the last one     {killed_at:6}")
    print(f"results lost                                   {lost:6}")
    print(f"searches repeated whose result was stored      {repeated:6}")
    print(f"results that arrived but were not stored yet   {unstored:6}")
    print(f"archive equal to that of the undisturbed run   {'yes' if found == wanted else 'NO':>6}")


if __name__ == "__main__":
    main()
