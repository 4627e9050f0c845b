"""Speed and size of the archive with synthetic candidates: `archive_speed.py [--candidates N]`.

Candidates are mutated from the seeds, prompts hold the interface, the parent and its feedback, replies hold
the child: as long as those of an LLM, and as much alike. Up to 5,000 are stored one by one as a run stores
them; beyond, their rows are copied in bulk with new hashes, and 1,000 more are stored one by one at the end.
"""

import argparse
import random
import re
import resource
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from database.archive import Archive
from database.connection import archive_url
from database.records import Axis, CallRecord, EvaluationRecord, ProposalRecord, RunRecord
from evaluators.problem import get_problem
from evolve.strategies import MapElites
from evolve.streams import stream

PROBLEM = get_problem("token_selection")
RUN = RunRecord(PROBLEM.name, "{}", 1, tuple(Axis(name, 0.0, 1.0, 8) for name in "abc"), 4, 50, "0.1.0")
WINDOW = 1000
ONE_BY_ONE = 5_000
BUDGETS = ("2.5%", "5.0%", "10.0%", "20.0%")
KINDS = ("error", "mean_error", "p95_error", "traffic")
METRICS = [f"{kind}@{budget}" for kind in KINDS for budget in BUDGETS]
IDEAS = PROBLEM.interface.split()


COPY = """
INSERT INTO candidate (id, hash, source)
    SELECT id + {by}, lower(hex(randomblob(32))), source FROM candidate WHERE id <= {first};
INSERT INTO evaluation (id, candidate_id, stage, split, score, behaviour, wall_s, message, feedback, samples,
    normal, noisy, digest)
    SELECT id + {by}, candidate_id + {by}, stage, split, score - {by}, lower(hex(randomblob(32))), wall_s,
    message, feedback, samples, lower(hex(randomblob(16))), noisy, randomblob(16) FROM evaluation
    WHERE id <= {first};
INSERT INTO metric
    SELECT evaluation_id + {by}, descriptor, name, value FROM metric WHERE evaluation_id <= {first};
INSERT INTO proposal (number, island, operator, candidate_id, completion, evaluation_id, score, placement,
    detail)
    SELECT number + {by}, island, operator, candidate_id + {by}, completion + {by}, evaluation_id + {by},
    score - {by}, 'rejected', detail FROM proposal WHERE number < {first};
INSERT INTO parent SELECT number + {by}, position, candidate_id + {by} FROM parent WHERE number < {first};
INSERT INTO model_call
    SELECT number + {by}, position, model, tokens_in, tokens_out, tokens_reasoning, cost_usd, latency_s, at,
    prompt, reply FROM model_call WHERE number < {first};
"""


class Writer:
    """Stores candidates as a run with an LLM does, and keeps what it took."""

    def __init__(self, archive: Archive, start: int = 0) -> None:
        self.archive = archive
        self.random = random.Random(start)
        self.population = [seed.source for seed in PROBLEM.seeds()]
        self.parent: str | None = None
        self.next = start
        self.seconds: list[float] = []

    def mutated(self, source: str) -> str:
        """Another number somewhere, perhaps a remark, a line less."""
        if numbers := list(re.finditer(r"\b\d+\b", source)):
            place = self.random.choice(numbers)
            source = source[: place.start()] + str(self.random.randrange(1000)) + source[place.end() :]
        lines = source.splitlines()
        if self.random.random() < 0.3:
            lines[self.random.randrange(len(lines))] += "  # " + self.words(4)
        if len(lines) > 30:
            del lines[self.random.randrange(len(lines))]
        return "\n".join(lines)

    def words(self, count: int) -> str:
        return " ".join(self.random.choice(IDEAS) for _ in range(count))

    def store(self) -> None:
        """One call, one proposal, one evaluation."""
        generator, number = self.random, self.next
        parent = generator.choice(self.population[-50:])
        child = self.mutated(parent)
        self.population.append(child)
        feedback = "\n".join(
            f"At {budget} traffic: error {generator.random():.3f} (95th {generator.random():.2f}), "
            f"used {generator.random():.2%}; by layer: {generator.random():.3f}, {generator.random():.3f}."
            for budget in BUDGETS
        )
        prompt = f"{PROBLEM.interface}\n```python\n{parent}\n```\n{feedback}\nMake it err less."
        reply = f"{self.words(60)}.\n{self.words(60)}.\n```python\n{child}\n```"
        call = CallRecord(number, 0, "a-model", prompt, reply, 2000, 700, 300, 0.001, 9.5, 1.7e9)
        parents = () if self.parent is None else (self.parent,)
        proposal = ProposalRecord(number, number % 4, "rewrite", parents, child)
        evaluation = EvaluationRecord(
            "search",
            "v1",
            generator.gauss(0, 1),
            feedback=feedback,
            behaviour=f"{generator.getrandbits(256):064x}",
            metrics={name: generator.random() for name in METRICS},
            descriptors={name: generator.random() for name in "abc"},
            samples=generator.randbytes(114),
            normal=f"{generator.getrandbits(128):032x}",
        )
        begin = time.perf_counter()
        self.archive.add_call(call)
        self.parent = self.archive.add_proposal(proposal)
        self.archive.add_evaluation(number, evaluation)
        self.seconds.append(time.perf_counter() - begin)
        self.next += 1


def multiply(path: Path, count: int) -> None:
    """Copies the rows of the first candidates until there are `count`."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -400000")
    stored = ONE_BY_ONE
    while stored < count:
        first = min(ONE_BY_ONE, count - stored)
        connection.executescript("BEGIN;" + COPY.format(by=stored, first=first) + "COMMIT;")
        stored += first
    connection.close()


def median_ms(ask: Callable[[], object], times: int = 15) -> float:
    def once() -> float:
        begin = time.perf_counter()
        ask()
        return time.perf_counter() - begin

    return 1000 * statistics.median(once() for _ in range(times))


def memory_mib() -> float:
    """Resident memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<36}{value:12.3f} {unit}", flush=True)


def questions(archive: Archive, hash: str) -> None:
    """How long the loop and `inspect` wait for their answers."""
    chosen = {selection: MapElites(archive, selection, RUN.islands) for selection in ("uniform", "rank")}
    drawn = stream(0, 1, "parents")
    asked: dict[str, Callable[[], object]] = {
        "two parents, uniform": lambda: chosen["uniform"].choose(1, drawn),
        "two parents, by rank": lambda: chosen["rank"].choose(1, drawn),
        "find_source": lambda: archive.find_source(hash),
        "find_normal, unknown": lambda: archive.find_normal("0" * 32),
        "find_behaviour, unknown": lambda: archive.find_behaviour("0" * 64, "search"),
        "leaderboard of 20": lambda: archive.leaderboard(20),
        "candidate by prefix": lambda: archive.candidate(hash[:12]),
        "coverage and QD-score": lambda: (archive.coverage(), archive.qd_score()),
        "measured on validation": lambda: archive.measured("validation"),
        "seeds": lambda: archive.candidates_of("seed"),
    }
    for name, ask in asked.items():
        show(name, median_ms(ask), "ms")
    scans = (archive.history, archive.operator_counts, archive.duplicates, archive.retests, archive.cost)
    for scan in (*scans, archive.failures, archive.content_hash):
        show(scan.__name__, median_ms(scan, times=1), "ms")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the archive.")
    parser.add_argument("--candidates", type=int, default=20_000, metavar="N")
    count = parser.parse_args().candidates
    with TemporaryDirectory() as folder:
        path = Path(folder) / "archive.db"
        url = archive_url(path)
        writer = Writer(Archive.create(url, RUN))
        for _ in range(min(count, ONE_BY_ONE)):
            writer.store()
        show("candidates", count, "")
        show(f"insert, first {WINDOW:,}", 1000 * statistics.median(writer.seconds[:WINDOW]), "ms")
        show(
            f"insert, up to {len(writer.seconds):,}", 1000 * statistics.median(writer.seconds[-WINDOW:]), "ms"
        )
        writer.archive.close()
        multiply(path, count)
        size = path.stat().st_size
        show("disk per 1,000 candidates", size / count / 1000, "MB")
        before = memory_mib()
        show("open", median_ms(lambda: Archive.open(url).close(), 5), "ms")
        archive = Archive.open(url)
        last = Writer(archive, start=count)
        for _ in range(WINDOW):
            last.store()
        show(f"insert, last {WINDOW:,}", 1000 * statistics.median(last.seconds), "ms")
        show("  99th percentile", 1000 * statistics.quantiles(last.seconds, n=100)[98], "ms")
        show("memory of the opened archive", memory_mib() - before, "MiB")
        questions(archive, last.parent or "")
        archive.close()


if __name__ == "__main__":
    main()
