"""A real PostgreSQL server for the tests that need one."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def server_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, those on the path first, else Debian's newest."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    installed = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(installed, key=lambda program: int(program.parts[-3]), default=None)
    return newest and newest.parent


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root, whom it refuses; None for ourselves."""
    known = {user.pw_name: user for user in pwd.getpwall()}
    return known.get("postgres", known["nobody"]) if os.geteuid() == 0 else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of an empty database with a password on a server of our own; skips where there is no PostgreSQL."""
    programs = server_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'psycopg[binary]'")
    password, user = secrets.token_hex(8), unprivileged_user()
    runs_as: dict[str, Any] = {}
    if user:
        runs_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def call(program: str, *arguments: str) -> None:
        command = [str(programs / program), "--pgdata", str(folder / "data"), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **runs_as)
        assert done.returncode == 0, done.stdout + done.stderr

    # Not in pytest's folder, which nobody but ourselves may enter.
    with tempfile.TemporaryDirectory(prefix="kvolve-postgresql-") as place:
        folder = Path(place)
        (folder / "password").write_text(password)
        if user:
            for path in (folder, folder / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        asking = ("--auth=scram-sha-256", "--username=kvolve", f"--pwfile={folder / 'password'}")
        call("initdb", *asking, "--encoding=UTF8", "--no-sync")
        options = f"-p {port} -h 127.0.0.1 -k '' -c fsync=off -c autovacuum=off -c max_connections=200"
        call("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)
        try:
            yield f"postgresql://kvolve:{password}@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "stop", "--mode=immediate")
