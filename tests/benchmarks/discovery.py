"""What the built-in proposer finds: `discovery.py PROBLEM [--seeds K] [--evaluations N]`.

A program and its evaluator may stand in place of the problem, and `--target SCORE` ends runs that reach it.

Each seed from 0 to K - 1 is a run by the command that a user types. Prints what every run found, then medians
with bootstrap intervals over runs, and how much of the gap between the published baseline and the bound the
champions close on holdout.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

KVOLVE = str(Path(sys.executable).parent / "kvolve")


def found(folder: Path, what: list[str], flags: list[str]) -> dict[str, float]:
    """What one run came to: scores of its best, its champion, the best seed and the bound."""
    begin = time.perf_counter()
    run = [KVOLVE, "run", *what, "--run-dir", str(folder), "--plain", *flags]
    subprocess.run(run, check=True, capture_output=True)
    took = time.perf_counter() - begin
    shown = subprocess.run([KVOLVE, "inspect", str(folder), "--json"], check=True, capture_output=True)
    result = json.loads(shown.stdout)
    seeds = [seed["score"] for seed in result["seeds"] if seed["score"] is not None]
    bounds = [bound["score"] for bound in result["bounds"] if bound["score"] is not None]
    scores = {
        "search": result["best"]["score"],
        "validation": result["champion"]["validation"],
        "holdout": result["champion"]["holdout"],
        "baseline": max(seeds),
        "bound": max(bounds, default=float("nan")),
        "evaluations": result["evaluations"],
        "time_s": took,
    }
    return {name: float("nan") if value is None else value for name, value in scores.items()}


def interval(values: list[float]) -> str:
    """The median with its 95% bootstrap interval."""
    drawn = np.random.default_rng(0).choice(values, (10_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return f"{np.median(values):.4f} ({low:.4f} .. {high:.4f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what the built-in proposer finds.")
    parser.add_argument("what", nargs="+", metavar="PROBLEM | INITIAL.py EVALUATOR.py")
    parser.add_argument("--seeds", type=int, default=5, metavar="K")
    parser.add_argument("--evaluations", type=int, default=200, metavar="N")
    parser.add_argument("--target", type=float, help="end a run when its best reaches this score")
    given, further = parser.parse_known_args()
    flags = ["--max-evaluations", str(given.evaluations), *further]
    if given.target is not None:
        flags += ["--target-score", str(given.target)]
    print(f"{' '.join(given.what)}: {given.seeds} seeds, {given.evaluations} evaluations each")
    results = []
    with TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            one = found(Path(folder) / str(seed), given.what, [*flags, "--seed", str(seed)])
            results.append(one)
            print(
                f"seed {seed}: " + ", ".join(f"{name} {value:.4f}" for name, value in one.items()), flush=True
            )
    for name in ("search", "validation", "holdout"):
        print(f"{name}: {interval([one[name] for one in results])}")
    if not np.isnan(results[0]["bound"]):
        closed = [(one["search"] - one["baseline"]) / (one["bound"] - one["baseline"]) for one in results]
        print(f"gap between the best seed and the bound closed in the search: {interval(closed)}")


if __name__ == "__main__":
    main()
