"""PostgreSQL: a schema of its own for each archive, its sessions, and its errors in the user's words."""

import hashlib
import re
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, exc, inspect, text
from sqlalchemy.schema import CreateSchema, DropSchema

from kvolve import KvolveError

DRIVER = "postgresql+psycopg"
NAMES = ("postgresql", "postgres", DRIVER)  # in URLs
CONNECT_TIMEOUT_S = 10
KEEPALIVE_S = 60  # the session that holds a lock says nothing for hours, and must not be forgotten on the way
DEFAULT_SCHEMA = "public"
# Short enough for the name of a backup, harmless between quotation marks, not one of the server's own.
SCHEMA = re.compile(r"(?!pg_)[A-Za-z0-9_][A-Za-z0-9_-]{0,47}")

# Readers see one moment for the whole of a question; the writer is alone, so that the usual level is enough.
READING = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}

LOST = "is out of reach. Everything committed is kept: `kvolve resume` goes on when the server is back"

# By the beginning of their SQLSTATE (PostgreSQL manual, appendix A).
EXPLANATIONS = {
    "25006": "is read-only, as a standby server is. Give the URL of the primary server",
    "42501": "does not give you the rights that this needs. Ask its owner for CREATE on the database, or for "
    "a schema that is yours, and name that by ?schema=NAME",
    "42P01": "is damaged: a table is missing. Restore it from a backup, or start a new run",
    "53100": "cannot grow: the disk of the server is full. Free some space, then `kvolve resume` goes on",
    "55P03": "is locked by another program, perhaps a kvolve that writes there. Wait until it ends, then try "
    "again",
    "XX": "is damaged, its server says. Restore it from a backup, or start a new run",
}

# Refusals of a connection have no SQLSTATE, only words. Where a server says them in another language, the
# last resort of `explain` repeats them.
REFUSALS = {
    "no password supplied": "wants a password. Set PGPASSWORD, or put it into ~/.pgpass or the URL",
    "password authentication failed": "refuses this user. Check the user and the password",
    "does not exist": "cannot be opened: {reason}. Make it on the server, or check the URL",
    "invalid connection option": "cannot be opened: {reason}. Check the URL",
    "permission denied": EXPLANATIONS["42501"],
    "too many": "has no connection left: {reason}. Close some, or raise max_connections of the server",
}


def open_engine(url: URL) -> Engine:
    """An engine whose sessions see the schema of an archive only.

    Raises KvolveError when the schema has an impossible name, or when the driver is missing.
    """
    if not SCHEMA.fullmatch(str(schema_of(url))):
        raise KvolveError(
            f"{schema_of(url)!r} cannot name the schema of an archive. Give ?schema=NAME of at most 48 "
            "letters, digits, - and _, not beginning with pg_."
        )
    try:
        engine = create_engine(url)
    except ImportError as error:
        raise KvolveError(
            f"PostgreSQL needs its driver ({error}). Install it with: pip install 'psycopg[binary]'"
        ) from error
    event.listen(engine, "do_connect", _connect)
    return engine


def schema_of(url: URL) -> str:
    """The schema that holds the archive."""
    return str(url.query.get("schema", DEFAULT_SCHEMA))


def schema_for(run: str) -> str:
    """The schema for a run of this name."""
    return "kvolve_" + re.sub(r"[^a-z0-9]+", "_", run.lower()).strip("_")[:40]


def make_schema(connection: Connection) -> None:
    """Makes the schema of a new archive, unless someone with more rights has made it before."""
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise KvolveError(
            f"The database keeps texts as {encoding}, which has no room for all characters. "
            "Make one with `createdb --encoding UTF8 --template template0 NAME`."
        )
    name = schema_of(connection.engine.url)
    if not inspect(connection).has_schema(name):
        connection.execute(CreateSchema(name))


def back_up(connection: Connection, revision: str) -> None:
    """Copies all tables into a schema beside that of the archive, in the transaction that migrates."""
    inspector = inspect(connection)
    source = schema_of(connection.engine.url)
    backup = f"{source}_revision_{revision}"
    if inspector.has_schema(backup):
        connection.execute(DropSchema(backup, cascade=True))
    connection.execute(CreateSchema(backup))
    for table in inspector.get_table_names():
        connection.execute(text(f'CREATE TABLE "{backup}"."{table}" AS TABLE "{source}"."{table}"'))


def take_right_to_write(connection: Connection, wait_s: float) -> None:
    """Makes the session the only writer of its archive until it ends.

    It waits for a writer that was killed: the server may need a moment to notice. Fails with an SQLSTATE of
    55P03 when there is another after `wait_s`.
    """
    # The server keeps such locks by number, apart for each of its databases.
    name = f"kvolve {schema_of(connection.engine.url)}"
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    connection.execute(text(f"SET lock_timeout TO '{wait_s:g}s'"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": key})


def explain(error: exc.DBAPIError) -> str | None:
    """What a user can do about an error, as the end of a sentence that begins with the database."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    if error.connection_invalidated:
        return LOST
    for sign, explanation in EXPLANATIONS.items():
        if state.startswith(sign):
            return explanation
    reason = _reason(str(error.orig))
    for sign, refusal in REFUSALS.items():
        if sign in reason and not state:
            return refusal.format(reason=reason)
    if state or not isinstance(error, exc.OperationalError):
        return None
    return (
        f"cannot be reached: {reason}. Start the server, or check the URL; `kvolve resume` goes on with a "
        "run that this ended"
    )


def _reason(message: str) -> str:
    """The part of libpq's message that says why, without the attempts before."""
    lines = [line for line in message.splitlines() if "failed: " in line] or message.splitlines()
    return re.split(r"failed: |FATAL:\s*", lines[-1])[-1].strip().rstrip(".")


def _connect(dialect: Dialect, _: Any, positional: list[Any], named: dict[str, Any]) -> Any:
    """A psycopg connection that finds the tables of its archive, and none of another in the same database."""
    options = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "keepalives_idle": KEEPALIVE_S,
        "client_encoding": "utf8",
        "application_name": "kvolve",
    } | named
    schema = options.pop("schema", DEFAULT_SCHEMA)
    connection: Any = dialect.connect(*positional, **options)
    connection.autocommit = True  # else a rollback would take the search path back
    connection.execute(f'SET search_path TO "{schema}"')
    connection.autocommit = False
    return connection
