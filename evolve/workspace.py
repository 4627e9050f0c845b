"""A run directory: where a run keeps its archive, and how one is opened by the name that a user gives."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database.archive import Archive
from database.connection import archive_url, own_url
from kvolve import KvolveError

ARCHIVE = "archive.db"
ELSEWHERE = "archive.url"  # says where the archive is when it is no file of the run directory
RUNS = Path("runs")


def new_directory(given: Path | None, problem: str) -> Path:
    """A directory for a new run; the next free runs/<problem>-NNN unless one is given.

    Raises KvolveError if it holds a run already or cannot be written.
    """
    directory = given or next(
        path for number in range(1, 1_000_000) if not (path := RUNS / f"{problem}-{number:03d}").exists()
    )
    if _holds_run(directory):
        raise KvolveError(
            f"{directory} holds a run already. `kvolve resume {directory}` goes on with it; "
            "choose another --run-dir for a new one."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KvolveError(
            f"The run directory {directory} cannot be made ({error.strerror}). Choose one that you may write."
        ) from error
    return directory


@contextmanager
def new_place(directory: Path, database: str | None) -> Iterator[str]:
    """The URL at which the block creates the archive of a new run: in the directory, or in a database.

    A database is noted in the directory, with its password if the URL has one, for nobody else to read; the
    note is taken back when the block fails. Raises KvolveError when the URL cannot be used.
    """
    if database is None:
        yield archive_url(directory / ARCHIVE)
        return
    url, note = own_url(database, directory.resolve().name), directory / ELSEWHERE
    with os.fdopen(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(url + "\n")
    try:
        yield url
    except BaseException:
        note.unlink()
        raise


def place_of(directory: Path) -> str:
    """The URL of the archive of a run directory. Raises KvolveError when only another user may read it."""
    try:
        return (directory / ELSEWHERE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return archive_url(directory / ARCHIVE)
    except OSError as error:
        raise KvolveError(
            f"{directory / ELSEWHERE} cannot be read ({error.strerror}). It says where the archive is; "
            "ask its owner."
        ) from error


def find_directory(run: str) -> Path:
    """The run directory that a user means: a path, or the name of a folder in runs/."""
    for directory in (Path(run), RUNS / run):
        if _holds_run(directory):
            return directory
    known = sorted(path.name for path in RUNS.glob("*") if _holds_run(path))
    hint = f"Runs here: {', '.join(known)}." if known else "`kvolve run token_selection` starts one."
    raise KvolveError(f"There is no run at {run!r}. {hint}")


def open_run(run: str) -> tuple[Path, Archive]:
    """A run's directory and its archive for reading."""
    directory = find_directory(run)
    return directory, Archive.open(place_of(directory), read_only=True)


def _holds_run(directory: Path) -> bool:
    return any((directory / name).is_file() for name in (ARCHIVE, ELSEWHERE))
