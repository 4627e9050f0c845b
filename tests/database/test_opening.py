"""Opening: migrations, what is refused and how it is said, the lock."""

import ast
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from database.archive import Archive
from database.connection import open_engine, transaction
from database.lock import archive_lock
from database.migrations import MIGRATIONS, current_revision, ensure_current, known_revisions, upgrade
from database.postgresql import make_schema
from database.records import CallRecord, Cost, DuplicateKind
from database.schema import Table
from kvolve import KvolveError

LATER_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{}"


def upgrade() -> None:
    op.add_column("event", sa.Column("origin", sa.String()))
    {}
"""


def execute(url: str, statements: str, **values: object) -> None:
    """Does what kvolve would not do, in one transaction."""
    with transaction(open_engine(url, "create"), writing=True) as connection:
        if connection.dialect.name == "postgresql":
            make_schema(connection)
        for statement in statements.split(";"):
            connection.execute(text(statement), values)


def later_migrations(folder: Path, last_step: str = "pass") -> Path:
    """The migrations as a later version of kvolve has them."""
    later = Path(shutil.copytree(MIGRATIONS, folder / "later"))
    (later / "versions" / "9000_later.py").write_text(LATER_REVISION.format(known_revisions()[-1], last_step))
    return later


def test_migrations_lead_to_the_schema(archive, url):
    with transaction(open_engine(url, "read")) as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_new_archive_has_the_last_revision(archive, url):
    with transaction(open_engine(url, "read")) as connection:
        assert current_revision(connection) == known_revisions()[-1]


def test_revisions_follow_their_file_names():
    for path in (MIGRATIONS / "versions").glob("*.py"):
        assigned = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Assign)
        }
        known = [None, *known_revisions()]
        assert assigned["revision"] == path.name[:4]
        assert assigned["down_revision"] == known[known.index(path.name[:4]) - 1]


def test_newer_archive_is_refused(archive, url):
    archive.close()
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(KvolveError, match=r"written by a newer kvolve \(revision 9999.*Update kvolve"):
        Archive.open(url)


def test_older_archive_is_migrated_after_a_backup(archive, url, tmp_path, propose):
    archive.add_proposal(propose(0))
    archive.close()
    ensure_current(open_engine(url, "write"), read_only=False, folder=later_migrations(tmp_path))
    with transaction(open_engine(url, "read")) as connection:
        assert current_revision(connection) == "9000"
    name = "{}_revision_{}" if url.startswith("postgresql") else "{}.revision-{}.backup"
    backup = Archive.open(name.format(url, known_revisions()[-1]))
    assert backup.pending() == [propose(0)]


def test_migration_that_fails_leaves_the_old_schema(archive, url, tmp_path):
    later = later_migrations(tmp_path, last_step="raise RuntimeError('power cut')")
    with pytest.raises(RuntimeError, match="power cut"):
        ensure_current(open_engine(url, "write"), read_only=False, folder=later)
    assert Archive.open(url).completed() == 0


def test_older_archive_is_not_migrated_by_a_reader(archive, url, tmp_path):
    with pytest.raises(KvolveError, match="older kvolve"):
        ensure_current(open_engine(url, "read"), read_only=True, folder=later_migrations(tmp_path))
    assert not list(tmp_path.glob("*.backup"))


def test_second_creation_is_refused_and_changes_nothing(archive, url, run, propose):
    archive.add_proposal(propose(0))
    with pytest.raises(KvolveError, match="exists already"):
        Archive.create(url, run)
    assert archive.pending() == [propose(0)]


def test_database_of_another_program_is_refused(url, run):
    execute(url, "CREATE TABLE recipe (name TEXT)")
    with pytest.raises(KvolveError, match="is not a kvolve archive"):
        Archive.open(url)
    with pytest.raises(KvolveError, match="exists already"):
        Archive.create(url, run)


@pytest.mark.parametrize("url", ["sqlite://", "nonsense", "nodatabase://host/name"])
def test_url_that_cannot_be_used_is_refused(url, run):
    with pytest.raises(KvolveError, match="ive sqlite:///PATH"):
        Archive.create(url, run)


def test_second_writer_is_refused_and_told_who_writes(tmp_path):
    with (
        archive_lock(tmp_path),
        pytest.raises(KvolveError, match=f"is being written by process {os.getpid()};"),
        archive_lock(tmp_path),
    ):
        pass


def test_lock_can_be_taken_again_afterwards(tmp_path):
    for _ in range(2):
        with archive_lock(tmp_path):
            assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_lock_ends_with_its_process(tmp_path):
    hold = "import sys, pathlib, os, signal\nfrom database.lock import archive_lock\n"
    hold += "with archive_lock(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", hold, str(tmp_path)], check=False).returncode == -9
    with archive_lock(tmp_path):
        pass


def test_lock_in_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KvolveError, match="cannot be written"), archive_lock(tmp_path / "file"):
        pass


FIRST_ROWS = """
INSERT INTO run VALUES (1, 'p', '{}', 1, '[{"name": "a", "low": 0, "high": 1, "bins": 2}]', 1, 0, '0.1.0');
INSERT INTO candidate VALUES (1, 'aaaa', :text), (2, 'bbbb', :text);
INSERT INTO evaluation VALUES
    (1, 1, NULL, 'search', 'v', 0.5, NULL, 'b', 0.1, :text, :text, :nothing),
    (2, 2, 1, 'search', 'v', 0.5, NULL, 'b', 0.1, :text, :text, :nothing);
INSERT INTO proposal VALUES
    (0, 0, 'seed', 1, 0, 0, 0.0, 1, 1, NULL, 0.5, 'new cell', ''),
    (1, 0, 'tune', 2, 7, 3, 0.25, 2, 2, 1, NULL, NULL, ''),
    (2, 0, 'tune', 1, 5, 0, 0.0, 3, 1, 1, NULL, NULL, ''),
    (3, 0, 'tune', 2, 0, 0, 0.0, NULL, NULL, NULL, NULL, NULL, '');
INSERT INTO transcript VALUES (1, :text, :text);
INSERT INTO elite VALUES (0, 0, '0', 0)
"""


@pytest.fixture
def first_archive(tmp_path: Path, url: str) -> str:
    """An archive as the first version of kvolve wrote it."""
    first = Path(shutil.copytree(MIGRATIONS, tmp_path / "first"))
    for path in (first / "versions").glob("*.py"):
        if not path.name.startswith("0001"):
            path.unlink()
    with transaction(open_engine(url, "create"), writing=True) as connection:
        upgrade(connection, first)
    execute(url, FIRST_ROWS, text=zlib.compress(b"text"), nothing=b"")
    return url


def test_transcripts_and_costs_of_an_older_archive_become_calls(first_archive):
    archive = Archive.open(first_archive)
    assert archive.calls(1) == [CallRecord(1, 0, "", "text", "text", 7, 3, 0, 0.25)]
    assert archive.calls(2) == [CallRecord(2, 0, "", "", "", 5, 0)]
    assert (archive.calls(0), archive.cost()) == ([], Cost(12, 3, 0.25, 0, 2))


def test_duplicates_of_an_older_archive_get_their_kinds(first_archive):
    archive = Archive.open(first_archive)
    assert archive.duplicates_by_operator() == {
        "tune": {DuplicateKind.EXACT: 1, DuplicateKind.NORMALISED: 0, DuplicateKind.BEHAVIOURAL: 1}
    }


def test_older_archive_goes_on_where_it_was(first_archive):
    archive = Archive.open(first_archive)
    assert [proposal.number for proposal in archive.pending()] == [3]
    assert [elite.hash for elite in archive.elites()] == ["aaaa"]
    assert archive.evaluation("bbbb", "search").feedback == "text"
