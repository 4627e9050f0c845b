"""Real processes: a killed writer loses nothing that it had committed, and readers see what it commits."""

import signal
import subprocess
import sys

import pytest

from database.archive import Archive

WRITER = """
import sys
from database.archive import Archive
from database.records import EvaluationRecord, ProposalRecord

archive = Archive.open(sys.argv[1])
number = archive.next_number()
while True:
    hash = archive.add_proposal(ProposalRecord(number, number % 2, "tune", (), f"x = {number}"))
    print("proposed", number, flush=True)
    place = {"index_share": number % 7 / 7, "locality": number % 5 / 5}
    metrics = {f"metric {i}": float(i) for i in range(8)}
    evaluation = EvaluationRecord("search", "v1", number % 11, metrics=metrics, descriptors=place)
    archive.add_evaluation(number, evaluation)
    print("completed", number, flush=True)
    number += 1
"""


def start_writer(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def filled_url(url, run):
    Archive.create(url, run).close()
    return url


@pytest.mark.parametrize("lines", [1, 60, 131])
def test_killed_writer_loses_nothing_that_it_reported(filled_url, lines):
    writer = start_writer(filled_url)
    reported = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    reported += writer.stdout.readlines()  # what it had said before the signal arrived
    writer.wait()
    proposed = sum(line.startswith("proposed") for line in reported)
    completed = sum(line.startswith("completed") for line in reported)

    archive = Archive.open(filled_url)
    # The one that was committed but not reported yet may be there as well, wholly.
    assert archive.next_number() in (proposed, proposed + 1)
    assert archive.completed() in (completed, completed + 1)
    assert archive.next_number() - archive.completed() == len(archive.pending()) <= 1
    lived = archive.leaderboard(10**6)
    assert len(lived) == archive.completed()
    assert all(len(archive.candidate(line.hash).evaluation.metrics) == 8 for line in lived)
    assert {elite.number for elite in archive.elites()} <= {line.number for line in lived}


def test_killed_run_goes_on_where_it_stopped(filled_url):
    for _ in range(3):
        writer = start_writer(filled_url)
        for _ in range(20):
            writer.stdout.readline()
        writer.kill()
        writer.wait()
    archive = Archive.open(filled_url)
    assert archive.next_number() >= 30
    assert archive.next_number() - archive.completed() == len(archive.pending()) <= 3


def test_reader_sees_commits_while_the_writer_goes_on(filled_url):
    writer = start_writer(filled_url)
    reader = Archive.open(filled_url, read_only=True)
    seen = []
    for _ in range(5):
        for _ in range(10):
            line = writer.stdout.readline()
        number = int(line.split()[1])
        seen.append(reader.completed())
        assert seen[-1] >= number
        assert reader.best() is not None
        assert len(reader.elites()) > 0
    assert writer.poll() is None
    writer.kill()
    writer.wait()
    assert seen == sorted(seen)
    reader.close()


def test_reader_finds_what_a_killed_writer_left(filled_url):
    writer = start_writer(filled_url)
    for _ in range(10):
        writer.stdout.readline()
    writer.kill()
    writer.wait()
    assert Archive.open(filled_url, read_only=True).completed() >= 4
