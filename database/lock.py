"""One writer per run directory, and per archive at a server that several machines may use."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database.connection import BUSY_TIMEOUT_S, explained_errors, open_engine
from database.postgresql import take_right_to_write
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


@contextmanager
def server_lock(url: str) -> Iterator[None]:
    """Holds the right to write in an archive at a PostgreSQL server; an SQLite file needs no more than
    `archive_lock`.

    It ends with the process, or when the server loses sight of it. Raises KvolveError when another process
    holds it, or when the server cannot be used.
    """
    engine = open_engine(url, "create")
    if engine.dialect.name != "postgresql":
        yield
        return
    session = engine.execution_options(isolation_level="AUTOCOMMIT")  # no transaction that lasts for hours
    try:
        with explained_errors(engine), session.connect() as connection:
            take_right_to_write(connection, BUSY_TIMEOUT_S)
            yield
    finally:
        engine.dispose()
