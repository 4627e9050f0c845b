"""All policies of `prefill_selection` at all budgets: `prefill.py [--stage S] [--recording R]`.

Prints a table in Markdown: for each seed and bound its score with a bootstrap interval over contexts, and for
each budget the error (geometric mean over layers, + 1%), the error of each layer, the share of the attention
that lies on what was computed, and the part of the computed fraction that deciding took. Then the leads that
papers claim, with paired intervals.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.prefill_selection.workloads import BUDGETS
from evaluators.problem import get_problem
from evolve.statistics import paired_difference
from tests.benchmarks.selection import interval, measured

PROBLEM = get_problem("prefill_selection")
CLAIMS = (  # who is ahead of whom, by the papers
    ("a_shape", "recent_window"),
    ("block_sparse", "uniform_random"),
    ("vertical_slash", "a_shape"),
    ("vertical_slash", "block_sparse"),
    ("flexprefill", "vertical_slash"),
    ("flexprefill", "block_sparse"),
    ("anchor_attention", "a_shape"),
    ("anchor_attention", "flexprefill"),
    ("anchor_attention", "vertical_slash"),
    ("oracle_columns", "oracle_blocks"),
)


def row(name: str, verdict: dict[str, Any]) -> str:
    cells = []
    layer_errors = np.array(verdict["samples"]).mean(0)  # [B, L]
    for budget, errors in zip(BUDGETS, layer_errors, strict=True):
        error, recall, deciding = (
            verdict["metrics"][f"{of}@{budget:.1%}"] for of in ("error", "recall", "deciding")
        )
        by_layer = ", ".join(f"{one:.2f}" for one in errors)
        cells.append(f"{error:.3f} ({by_layer}) / {recall:.1%} / {deciding:.1%}")
    return f"| {name} | {interval(np.array(verdict['samples']))} | {' | '.join(cells)} |"


def without_first_layer(samples: np.ndarray) -> float:
    """The score over all layers but the first, whose attention is nearly flat."""
    return PROBLEM.score_of(samples[:, :, 1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the table of all published prefill policies.")
    parser.add_argument("--stage", default="validation", choices=("search", "validation", "holdout"))
    parser.add_argument("--recording", default="full")
    given = parser.parse_args()
    found = measured(given.stage, given.recording, PROBLEM)
    print("| policy | score, 95% interval |" + "".join(f" {budget:.0%} |" for budget in BUDGETS))
    print("|---|--:|" + "--:|" * len(BUDGETS))
    for name in sorted(found, key=lambda name: -found[name]["score"]):
        print(row(name, found[name]))
    print("\n| claimed | behind | lead of the score, 95% interval | without the first layer |")
    print("|---|---|--:|--:|")
    for first, second in CLAIMS:
        pair = [np.array(found[name]["samples"]) for name in (first, second)]
        leads = [paired_difference(*pair, score) for score in (PROBLEM.score_of, without_first_layer)]
        print(f"| {first} | {second} | " + " | ".join(f"{lead.value:+.3f} ({lead})" for lead in leads) + " |")


if __name__ == "__main__":
    main()
