"""Strategies and selections at equal budget: `strategies.py [--seeds K] [--evaluations N] [--recording R]`.

Each, or each of those that `--only` names, is run with the seeds 0 to K - 1 by the command that a user types;
further flags go to it. Prints the champion's validation score, its lead over the first of them with a
bootstrap interval over runs, and the grid.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[2]))

from evolve.compare import difference_of_means

KVOLVE = str(Path(sys.executable).parent / "kvolve")
VARIANTS = {
    "map_elites, uniform": ("--strategy", "map_elites", "--selection", "uniform"),
    "map_elites, rank": ("--strategy", "map_elites", "--selection", "rank"),
    "map_elites, curiosity": ("--strategy", "map_elites", "--selection", "curiosity"),
    "best_of_n": ("--strategy", "best_of_n"),
    "random_restart": ("--strategy", "random_restart"),
    "hill_climb": ("--strategy", "hill_climb"),
}


def result(folder: Path, arguments: list[str]) -> dict[str, float]:
    """What one run came to, and the seconds that it took."""
    begin = time.perf_counter()
    run = ["run", "token_selection", "--run-dir", str(folder), "--plain", *arguments]
    subprocess.run([KVOLVE, *run], check=True, capture_output=True)
    took = time.perf_counter() - begin
    shown = subprocess.run([KVOLVE, "inspect", str(folder), "--json"], check=True, capture_output=True)
    found = json.loads(shown.stdout)
    return {
        "validation": found["champion"]["validation"],
        "search": found["best"]["score"],
        "coverage": found["coverage"],
        "qd_score": found["qd_score"],
        "time_s": took,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares strategies at equal budget.")
    parser.add_argument("--seeds", type=int, default=3, metavar="K")
    parser.add_argument("--evaluations", type=int, default=200, metavar="N")
    parser.add_argument("--recording", default="small")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    given, further = parser.parse_known_args()
    budget = ["--recording", given.recording, "--max-evaluations", str(given.evaluations), *further]
    print(f"{given.seeds} seeds, {given.evaluations} evaluations each, recording {given.recording}")
    print(
        f"{'':24}{'validation':>11}{'lead':>9}{'95% interval':>22}{'search':>9}{'coverage':>10}"
        f"{'QD-score':>10}{'time s':>8}"
    )
    first: list[float] = []
    with TemporaryDirectory() as folder:
        for name in given.only:
            results = [
                result(Path(folder) / f"{name} {seed}", [*budget, "--seed", str(seed), *VARIANTS[name]])
                for seed in range(given.seeds)
            ]
            scores = [one["validation"] for one in results]
            first = first or scores
            lead = difference_of_means(scores, first)
            interval = f"{lead.low:+.4f} .. {lead.high:+.4f}" if scores is not first else ""
            mean = {key: statistics.fmean(one[key] for one in results) for key in results[0]}
            print(
                f"{name:24}{mean['validation']:11.4f}{lead.value:+9.4f}{interval:>22}{mean['search']:9.4f}"
                f"{mean['coverage']:10.1%}{mean['qd_score']:10.2f}{mean['time_s']:8.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
