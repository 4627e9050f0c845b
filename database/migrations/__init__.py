"""Bringing an archive to the schema of this version.

Revisions are the files of `versions`, numbered in order; Alembic runs them. It is imported only when there is
something to do, so that opening an archive stays fast.
"""

import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from database.connection import display_name, sqlite_path, transaction
from database.postgresql import back_up, make_schema
from kvolve import KvolveError

MIGRATIONS = Path(__file__).parent


def known_revisions(folder: Path = MIGRATIONS) -> list[str]:
    """All revisions that this version of kvolve knows, oldest first."""
    return sorted(path.name.split("_")[0] for path in (folder / "versions").glob("[0-9]*.py"))


def current_revision(connection: Connection) -> str | None:
    """The revision of an archive, None when the database is none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def upgrade(connection: Connection, folder: Path = MIGRATIONS) -> None:
    """Runs all missing migrations inside the transaction of `connection`."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        make_schema(connection)
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def ensure_current(engine: Engine, read_only: bool, folder: Path = MIGRATIONS) -> None:
    """Migrates an older archive, after a copy: `NAME.revision-NNNN.backup` beside a file, schema
    `NAME_revision_NNNN` at PostgreSQL.

    Raises KvolveError when the database is no archive, was written by a newer kvolve, or is older and
    `read_only`.
    """
    name, known = display_name(engine.url), known_revisions(folder)
    with transaction(engine) as connection:
        revision = current_revision(connection)
    if revision is None:
        raise KvolveError(f"{name} is not a kvolve archive. Give the run directory that `kvolve run` made.")
    if revision not in known:
        raise KvolveError(
            f"{name} was written by a newer kvolve "
            f"(revision {revision}; this version knows up to {known[-1]}). "
            "Update kvolve and try again."
        )
    if revision == known[-1]:
        return
    if read_only:
        raise KvolveError(
            f"{name} was written by an older kvolve (revision {revision}). "
            "`kvolve resume` on it once brings it up to date, after a backup."
        )
    if path := sqlite_path(engine.url):
        _back_up_file(path, path.with_name(f"{path.name}.revision-{revision}.backup"))
    with transaction(engine, writing=True) as connection:
        if connection.dialect.name == "postgresql":
            back_up(connection, revision)
        upgrade(connection, folder)


def _back_up_file(path: Path, backup: Path) -> None:
    unfinished = backup.with_name(backup.name + ".unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        source, copy = sqlite3.connect(path), sqlite3.connect(unfinished)
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()
        os.replace(unfinished, backup)
    except (OSError, sqlite3.Error) as error:
        raise KvolveError(
            f"The backup {backup} cannot be written ({error}), so the archive was not migrated. "
            "Free some space and try again."
        ) from error
