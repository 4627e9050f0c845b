"""Opening a database: URL, connection settings, transactions, and errors in the user's words."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url

from database import postgresql
from kvolve import KvolveError

Mode = Literal["create", "write", "read"]

BUSY_TIMEOUT_S = 5.0

DATABASES = "Give sqlite:///PATH or postgresql://USER@HOST/DATABASE."

EXPLANATIONS = {
    "database is locked": "is locked by another program. Close that program and try again",
    "readonly database": "cannot be written. Check that you may write the file and its folder",
    "unable to open database file": "cannot be opened. Check that its folder exists and may be written",
    "disk is full": "cannot grow: the disk is full. Free some space, then `kvolve resume` goes on",
    "disk I/O error": "cannot be read or written: the disk reports an error. Check the disk, then resume",
    "not a database": "is not a kvolve archive. Give the run directory that `kvolve run` made",
    "malformed": "is damaged. Restore it from a backup, or start a new run",
    "no such table": "is damaged: a table is missing. Restore it from a backup, or start a new run",
}


def archive_url(path: Path) -> str:
    """The URL of an archive in a file, whatever characters its path holds."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def own_url(text: str, run: str) -> str:
    """The URL of the archive of a run, its password included, in a database that a user named by URL.

    At PostgreSQL, every run gets a schema of its own, called after it unless the URL says ?schema=NAME; an
    SQLite file is that of one run. Raises KvolveError when the URL cannot be used.
    """
    url = _parse(text)
    if path := sqlite_path(url):
        return archive_url(path.absolute())
    url = url.update_query_dict({"schema": url.query.get("schema", postgresql.schema_for(run))})
    return url.render_as_string(hide_password=False)


def sqlite_path(url: URL) -> Path | None:
    """The file of an SQLite URL, None for any other database."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def display_name(url: URL) -> str:
    """How messages call the database: the path of the file, or the URL without its password."""
    shown = url.difference_update_query(["password"])
    return str(sqlite_path(url) or shown.render_as_string(hide_password=True))


def open_engine(text: str, mode: Mode) -> Engine:
    """An engine for a SQLAlchemy URL. Raises KvolveError when it cannot be used, or there is no such file."""
    url = _parse(text)
    path = sqlite_path(url)
    if path is None:
        return postgresql.open_engine(url)
    if mode != "create" and not path.is_file():
        raise KvolveError(f"There is no archive at {path}. Check the path; `kvolve run` makes one.")
    engine = create_engine(url, creator=lambda: _connect_sqlite(path, mode))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _parse(text: str) -> URL:
    """The URL of a file or of a PostgreSQL database. Raises KvolveError for any other."""
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError) as error:
        shown = text.rpartition("@")[2]  # before it there may be a password
        raise KvolveError(f"The database URL {shown!r} cannot be read. {DATABASES}") from error
    if url.drivername in postgresql.NAMES:
        return url.set(drivername=postgresql.DRIVER)
    if url.drivername != "sqlite":
        raise KvolveError(f"An archive cannot be kept in a database of {url.drivername!r}. {DATABASES}")
    if not url.database or url.database == ":memory:":
        raise KvolveError("An archive needs a file: give sqlite:///PATH, not an SQLite database in memory.")
    if "?" in text:  # SQLAlchemy would cut the path there and read the rest as options
        raise KvolveError(f"{text} has a question mark. Write it as %3F when it belongs to the path.")
    return url


def _connect_sqlite(path: Path, mode: Mode) -> sqlite3.Connection:
    query = {"create": "mode=rwc", "write": "mode=rw", "read": "mode=ro"}[mode]
    if mode == "read" and _is_settled(path):
        query = "immutable=1"
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{query}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,  # the driver would begin transactions late and commit before some statements
        check_same_thread=False,
    )
    connection.execute("PRAGMA foreign_keys = ON")
    if mode != "read":
        connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
        # NORMAL leaves it to the system when a commit reaches the disk. The death of the process, kill -9
        # included, loses nothing: what was written is in the system's cache. A power cut may cost the last
        # transactions, whole ones, and never damages the file. FULL would cost a disk flush per evaluation.
        connection.execute("PRAGMA synchronous = NORMAL")
        # A checkpoint flushes the disk. It is due after 16 MB of log instead of 4: most pages that it copies
        # are the same ones, and a candidate writes a dozen.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
    return connection


def _is_settled(path: Path) -> bool:
    """Whether a file is on a read-only disk, no log beside it: SQLite then reads it only as unchanging."""
    return not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: upgrading a reading transaction could fail without waiting.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def transaction(engine: Engine, writing: bool = False) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    What a reading one sees is of one moment. Raises KvolveError for a locked, damaged, unwritable or
    unreachable database and for a full disk.
    """
    options: dict[str, Any] = {"writing": writing}
    if not writing and engine.dialect.name == "postgresql":
        options |= postgresql.READING
    with (
        explained_errors(engine),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def explained_errors(engine: Engine) -> Iterator[None]:
    """Makes a KvolveError of an error of the database that a user can mend."""
    try:
        yield
    except exc.DatabaseError as error:
        if explanation := _explain(error, engine):
            raise KvolveError(f"{display_name(engine.url)} {explanation}.") from error
        raise


def _explain(error: exc.DatabaseError, engine: Engine) -> str | None:
    if engine.dialect.name == "postgresql":
        return postgresql.explain(error)
    found = (explanation for sign, explanation in EXPLANATIONS.items() if sign in str(error.orig))
    return next(found, None)
