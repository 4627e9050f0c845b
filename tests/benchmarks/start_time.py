"""How long a user waits: `kvolve --help`, and from `kvolve run` to its first evaluated candidate.

    python tests/benchmarks/start_time.py [--rounds 5]

Prints medians. The first candidate is the first seed, through probe and search on the full recording (which
has to be there) in a fresh run directory.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KVOLVE = str(Path(sys.executable).parent / "kvolve")


def help_s() -> float:
    started = time.perf_counter()
    subprocess.run([KVOLVE, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def first_candidate_s(pool: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [KVOLVE, "run", "token_selection", "--max-evaluations", "1", "--plain", "--pool", pool]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--run-dir", f"{folder}/run"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " of 1 " in line:
                break
        else:
            raise RuntimeError("".join(lines))
        waited = time.perf_counter() - started
        process.stdout.read()
        process.wait()
    return waited


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"kvolve --help                       {statistics.median(help_s() for _ in range(rounds)):6.2f} s")
    for pool in ("local", "ray"):
        waited = statistics.median(first_candidate_s(pool) for _ in range(rounds))
        print(f"run to first candidate, {pool:<11} {waited:6.2f} s")


if __name__ == "__main__":
    main()
