"""All policies of `token_selection` at all budgets: `selection.py [--stage S] [--recording R] [--figure F]`.

Prints a table in Markdown: for each seed and bound its score with a bootstrap interval over contexts, and for
each budget the error (geometric mean over layers of error + 1%), the mean and the 95th percentile over all
heads, and of the traffic the index's part; what is left are keys and values, one half each. Then the leads
that papers claim, with paired intervals.
"""

import argparse
import sys
import time
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.problem import Problem, get_problem
from evaluators.token_selection.workloads import BUDGETS
from evolve.problems import task_of
from evolve.run import choose_recording
from evolve.statistics import paired_difference
from sandbox.task import Limits
from sandbox.worker import Worker

PROBLEM = get_problem("token_selection")
RESAMPLES = 2_000
CLAIMS = (  # who is ahead of whom, by the papers
    ("streaming_llm", "recent_window"),
    ("h2o", "streaming_llm"),
    ("scissorhands", "streaming_llm"),
    ("quest", "streaming_llm"),
    ("lserve", "quest"),
    ("hash_attention", "simhash"),
    ("hash_attention", "quest"),
    ("hash_attention", "double_sparsity"),
    ("double_sparsity", "sparq"),
    ("squeezed_attention", "quest"),
    ("oracle_top_p", "oracle_top_k"),
    ("oracle_vattention", "oracle_top_k"),
    ("oracle_vattention", "oracle_top_p"),
    ("vattention", "hash_attention"),
    ("vattention", "simhash_sampled"),
    ("magicpig", "simhash"),
)


def measured(stage: str, recording: str, problem: Problem = PROBLEM) -> dict[str, dict[str, Any]]:
    """What each seed and bound came to."""
    inputs = problem.inputs(choose_recording(recording, print, lambda *_: None))
    print(f"{inputs.summary}, {stage}\n")
    worker = Worker(task_of(problem, inputs), Limits(wall_s=600, cpu_s=600))
    found = {}
    for seed in problem.seeds():
        begin = time.perf_counter()
        outcome = worker.run(seed.source, stage)
        if outcome.value is None:
            raise SystemExit(f"{seed.name}: {outcome.message}")
        found[seed.name] = outcome.value
        print(f"{seed.name}: {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
    worker.close()
    return found


def interval(samples: np.ndarray) -> str:
    """A score with its 95% bootstrap interval over contexts."""
    random = np.random.default_rng(0)
    drawn = random.integers(len(samples), size=(RESAMPLES, len(samples)))
    low, high = np.quantile([PROBLEM.score_of(samples[one]) for one in drawn], [0.025, 0.975])
    return f"{PROBLEM.score_of(samples):.3f} ({low:.3f} .. {high:.3f})"


def row(name: str, verdict: dict[str, Any]) -> str:
    cells = []
    for budget in BUDGETS:
        figures = [verdict["metrics"][f"{of}@{budget:.1%}"] for of in ("error", "mean_error", "p95_error")]
        index = verdict["metrics"][f"index_traffic@{budget:.1%}"]
        cells.append(f"{' / '.join(f'{one:.3f}' for one in figures)} / {index:.1%}")
    return f"| {name} | {interval(np.array(verdict['samples']))} | {' | '.join(cells)} |"


def figure(found: dict[str, dict[str, Any]]) -> str:
    """Error over traffic, both logarithmic, as an SVG; the best policies have names and colours."""
    width, height, left, top = 760, 480, 60, 20
    errors = {name: [v["metrics"][f"error@{b:.1%}"] for b in BUDGETS] for name, v in found.items()}
    low, high = np.log10(min(map(min, errors.values()))), np.log10(max(map(max, errors.values())))
    ranked = sorted(found, key=lambda name: -found[name]["score"])
    xs = [left + 520 * np.log2(budget / BUDGETS[0]) / np.log2(BUDGETS[-1] / BUDGETS[0]) for budget in BUDGETS]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for x, budget in zip(xs, BUDGETS, strict=True):
        parts.append(f'<text x="{x:.0f}" y="{height - 8}" text-anchor="middle">{budget:.1%}</text>')
    for tick in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0):
        y = top + (height - top - 40) * (high - np.log10(tick)) / (high - low)
        if top <= y <= height - 40:
            parts.append(f'<path d="M{left} {y:.0f}H{xs[-1]:.0f}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>')
    for place, name in enumerate(ranked):
        ys = [top + (height - top - 40) * (high - np.log10(error)) / (high - low) for error in errors[name]]
        colour = f"hsl({place * 360 // 12 % 360},65%,40%)" if place < 12 else "#bbb"
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        dashed = ' stroke-dasharray="5 3"' if name.startswith("oracle") else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"{dashed}/>'
        )
        if place < 12:
            label = f"{escape(name)} {found[name]['score']:.2f}"
            parts.append(
                f'<text x="{xs[-1] + 12:.0f}" y="{top + 20 + 16 * place}" fill="{colour}">{label}</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the table of all published policies.")
    parser.add_argument("--stage", default="validation", choices=("search", "validation", "holdout"))
    parser.add_argument("--recording", default="full")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="an SVG with error over traffic")
    given = parser.parse_args()
    found = measured(given.stage, given.recording)
    print("| policy | score, 95% interval |" + "".join(f" {budget:.1%} |" for budget in BUDGETS))
    print("|---|--:|" + "--:|" * len(BUDGETS))
    for name in sorted(found, key=lambda name: -found[name]["score"]):
        print(row(name, found[name]))
    print("\n| claimed | behind | lead of the score, 95% interval |\n|---|---|--:|")
    for first, second in CLAIMS:
        pair = (np.array(found[name]["samples"]) for name in (first, second))
        ahead = paired_difference(*pair, PROBLEM.score_of)
        print(f"| {first} | {second} | {ahead.value:+.3f} ({ahead}) |")
    if given.figure:
        given.figure.write_text(figure(found))


if __name__ == "__main__":
    main()
