"""What guarantees cost, and whether they are kept: `guarantee.py [--stage S] [--recording R] [--draws N]`.

Prints, in Markdown: how often the paper's lemma and the rule of its public code miss what they guarantee,
where all moments are known; the samples that each rule asks for to guarantee the output; and all policies of
`verified_selection` at all goals, with the upper bounds of their violations and what they read. With
`--run RUN` the champion of a run is among them.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from database.archive import Archive
from evaluators.problem import get_problem
from evaluators.verified_selection.workloads import GOALS
from evolve.finals import read_finals
from evolve.problems import task_of
from evolve.run import choose_recording
from evolve.workspace import place_of
from sandbox.task import Limits
from sandbox.worker import Worker
from tests.evaluators.verified_selection.theory import draws, exceedance, heads_of, mean_exceedance, size

PROBLEM = get_problem("verified_selection")
DELTAS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
RULES = ("lemma", "tight", "ratio")
RESAMPLES = 2_000


def theory(recording: Path, stage: str, times: int) -> None:
    heads = list(heads_of(recording, stage))
    print(f"{len(heads)} heads, {heads[0].n} tokens behind sinks, window and the heaviest 5%\n")
    print("| delta | denominator, two-sided | denominator, one-sided | numerator, two-sided |")
    print("|---|--:|--:|--:|")
    for delta in DELTAS:
        ways = (("denominator", 2), ("denominator", 1), ("numerator", 2))
        found = [mean_exceedance(heads, quantity, delta, sides, times) for quantity, sides in ways]
        cells = ["-" if np.isnan(share) else f"{share:.3f}" for share in found]
        print(f"| {delta:g} | {' | '.join(cells)} |")
    print("\n| epsilon, delta | " + " | ".join(RULES) + " | missed: " + " / ".join(RULES) + " |")
    print("|---|" + "--:|" * 4)
    random = np.random.default_rng(0)
    for epsilon, delta in ((0.05, 0.05), (0.1, 0.1), (0.2, 0.2)):
        shares, missed = [], []
        for rule in RULES:
            sizes = [size(rule, head, epsilon, delta) for head in heads]
            shares.append(np.mean([count / head.n for count, head in zip(sizes, heads, strict=True)]))
            missed.append(
                np.mean(
                    [
                        exceedance(head, "output", epsilon, draws(head, count, times, random, False))
                        for count, head in zip(sizes, heads, strict=True)
                    ]
                )
            )
        cells = " | ".join(f"{share:.3f}" for share in shares)
        print(f"| {epsilon:g}, {delta:g} | {cells} | {' / '.join(f'{share:.3f}' for share in missed)} |")


def policies(recording: Path, stage: str, run: Path | None, names: list[str]) -> None:
    sources = {seed.name: seed.source for seed in PROBLEM.seeds()}
    if run is not None:
        archive = Archive.open(place_of(run))
        finals = read_finals(archive)
        assert finals is not None
        sources["champion"] = archive.candidate(finals.champion.hash).source
        archive.close()
    worker = Worker(task_of(PROBLEM, PROBLEM.inputs(recording)), Limits(wall_s=900, cpu_s=900))
    rows: list[tuple[float, str]] = []
    for name, source in sources.items():
        if names and name not in names:
            continue
        outcome = worker.run(source, stage)
        if outcome.value is None:
            raise SystemExit(f"{name}: {outcome.message}")
        rows.append((outcome.value["score"], f"| {name} | {_row(outcome.value)} |"))
    worker.close()
    print(f"\n{stage}. Per goal: traffic / of it index / violations / their upper bound, overall and in the")
    print("worst layer / share of heads above delta. Bold where it is certified.\n")
    print("| policy | score, 95% interval | " + " | ".join(GOALS) + " |")
    print("|---|--:|" + "--:|" * len(GOALS))
    for _, row in sorted(rows, reverse=True):
        print(row)


def _row(value: dict[str, Any]) -> str:
    metrics, samples = value["metrics"], np.array(value["samples"])
    random = np.random.default_rng(0)
    scores = [
        PROBLEM.score_of(samples[random.integers(len(samples), size=len(samples))]) for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(scores, [0.025, 0.975])
    cells = [f"{value['score']:+.3f} ({low:+.3f} .. {high:+.3f})"]
    for goal in GOALS:
        mark = "**" if metrics[f"certified@{goal}"] else ""
        cells.append(
            f"{mark}{metrics[f'traffic@{goal}']:.3f}{mark} / {metrics[f'index_traffic@{goal}']:.3f} / "
            f"{metrics[f'violations@{goal}']:.3f} / {metrics[f'bound@{goal}']:.3f} / "
            f"{metrics[f'worst_layer_bound@{goal}']:.3f} / {metrics[f'heads_above@{goal}']:.2f}"
        )
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", default="validation")
    parser.add_argument("--recording", default="full")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--names", default="", help="of the policies, with commas; by default all")
    parser.add_argument("--only", choices=("theory", "policies"))
    given = parser.parse_args()
    recording = choose_recording(given.recording, print, lambda *_: None)
    if given.only != "policies":
        theory(recording, given.stage, given.draws)
    if given.only != "theory":
        policies(recording, given.stage, given.run, [name for name in given.names.split(",") if name])


if __name__ == "__main__":
    main()
