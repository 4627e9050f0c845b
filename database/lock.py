"""One writer per run directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvolve import KvolveError


@contextmanager
def archive_lock(directory: Path) -> Iterator[None]:
    """Holds the right to write in a run directory; it ends with the process, however that ends.

    Raises KvolveError at once when another process holds it, or when the directory cannot be written.
    """
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise KvolveError(
            f"{directory} cannot be written ({error.strerror}). Choose a run directory that you may write."
        ) from error
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            writer = file.read().strip() or "(unknown)"
            raise KvolveError(
                f"{directory} is being written by process {writer}; "
                "wait until it ends or choose another run directory."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
