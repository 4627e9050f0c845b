"""Speed of the archive with synthetic candidates: `archive_speed.py [--candidates N]`.

Prints medians and sizes. Every candidate has a source of 1.4 kB, a prompt of 6 kB, a reply of 2 kB, 16
metrics and 800 bytes of samples. Texts are random words: real prompts repeat more and compress better.
"""

import argparse
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from database.archive import Archive
from database.connection import archive_url
from database.records import Axis, EvaluationRecord, ProposalRecord, RunRecord

RUN = RunRecord("token_selection", "{}", 1, tuple(Axis(name, 0.0, 1.0, 8) for name in "abc"), 4, 50, "0.1.0")
WINDOW = 1000


def text(generator: random.Random, words: int) -> str:
    return " ".join(f"word{generator.randrange(500)}" for _ in range(words))


def insert(archive: Archive, number: int, generator: random.Random, parent: str | None) -> tuple[str, float]:
    """Stores and completes one proposal; returns its hash and the seconds that the archive took."""
    source, prompt, reply = (text(generator, words) for words in (180, 800, 260))
    parents = () if parent is None else (parent,)
    proposal = ProposalRecord(number, number % 4, "tune", parents, source, prompt, reply, 2000, 700, 0.001)
    evaluation = EvaluationRecord(
        "search",
        "v1",
        generator.gauss(0, 1),
        feedback=text(generator, 60),
        behaviour=f"{generator.getrandbits(256):064x}",
        metrics={f"metric {i}": generator.random() for i in range(16)},
        descriptors={name: generator.random() for name in "abc"},
        samples=generator.randbytes(800),
    )
    begin = time.perf_counter()
    hash = archive.add_proposal(proposal)
    archive.add_evaluation(number, evaluation)
    return hash, time.perf_counter() - begin


def median_ms(ask: Callable[[], object], times: int = 15) -> float:
    def once() -> float:
        begin = time.perf_counter()
        ask()
        return time.perf_counter() - begin

    return 1000 * statistics.median(once() for _ in range(times))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the archive.")
    parser.add_argument("--candidates", type=int, default=20_000, metavar="N")
    count = parser.parse_args().candidates
    generator = random.Random(0)
    with TemporaryDirectory() as folder:
        url = archive_url(Path(folder) / "archive.db")
        archive, parent, seconds = Archive.create(url, RUN), None, []
        for number in range(count):
            parent, took = insert(archive, number, generator, parent)
            seconds.append(took)
        first, last = seconds[:WINDOW], seconds[-WINDOW:]
        print(f"candidates                      {count:>10,}")
        print(f"insert, first {WINDOW:,}             {1000 * statistics.median(first):10.3f} ms")
        print(f"insert, last {WINDOW:,}              {1000 * statistics.median(last):10.3f} ms")
        slowest = statistics.quantiles(last, n=100)[98]
        print(f"insert, last {WINDOW:,}, 99th pctile {1000 * slowest:10.3f} ms")
        print(f"insert, mean of all             {1000 * statistics.fmean(seconds):10.3f} ms")
        parent = parent or ""
        questions: dict[str, Callable[[], object]] = {
            "parent choice": lambda: archive.sample_elite(1, generator.randrange),
            "find_source": lambda: archive.find_source(parent),
            "find_behaviour, unknown": lambda: archive.find_behaviour("0" * 64, "search"),
            "leaderboard of 20": lambda: archive.leaderboard(20),
            "candidate by prefix": lambda: archive.candidate(parent[:12]),
            "coverage and QD-score": lambda: (archive.coverage(), archive.qd_score()),
        }
        for name, ask in questions.items():
            print(f"{name:<32}{median_ms(ask):10.3f} ms")
        scans = (
            archive.history,
            archive.operator_counts,
            archive.cost,
            archive.failures,
            archive.content_hash,
        )
        for scan in scans:
            print(f"{scan.__name__:<32}{median_ms(scan, times=1):10.3f} ms")
        archive.close()
        print(f"open                            {median_ms(lambda: Archive.open(url).close(), 5):10.3f} ms")
        size = (Path(folder) / "archive.db").stat().st_size
        print(f"disk per 1,000 candidates       {size / count / 1000:10.3f} MB")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process      {peak:10.1f} MiB")


if __name__ == "__main__":
    main()
