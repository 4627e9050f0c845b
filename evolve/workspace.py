"""A run directory: where a run keeps its archive, and how one is opened by the name that a user gives."""

from pathlib import Path

from database.archive import Archive
from database.connection import archive_url
from kvolve import KvolveError

ARCHIVE = "archive.db"
RUNS = Path("runs")


def new_directory(given: Path | None, problem: str) -> Path:
    """A directory for a new run; the next free runs/<problem>-NNN unless one is given.

    Raises KvolveError if it holds a run already or cannot be written.
    """
    directory = given or next(
        path for number in range(1, 1_000_000) if not (path := RUNS / f"{problem}-{number:03d}").exists()
    )
    if (directory / ARCHIVE).exists():
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


def find_directory(run: str) -> Path:
    """The run directory that a user means: a path, or the name of a folder in runs/."""
    for directory in (Path(run), RUNS / run):
        if (directory / ARCHIVE).is_file():
            return directory
    known = sorted(path.parent.name for path in RUNS.glob(f"*/{ARCHIVE}"))
    hint = f"Runs here: {', '.join(known)}." if known else "`kvolve run token_selection` starts one."
    raise KvolveError(f"There is no run at {run!r}. {hint}")


def open_run(run: str) -> tuple[Path, Archive]:
    """A run's directory and its archive for reading."""
    directory = find_directory(run)
    return directory, Archive.open(archive_url(directory / ARCHIVE), read_only=True)
