"""All policies of `kv_eviction` at all budgets: `eviction.py [RUN] [--stage S] [--model M] [--decode]`.

Prints a table in Markdown: for each seed and bound, and the champion of a run where one is given, the score
(at a quarter and an eighth of the bytes) with a bootstrap interval over contexts; and at a half, a quarter,
an eighth and a sixteenth the KL divergence, what answers cost beyond the full cache (first / second question,
nats a token), and with `--decode` the KL while 256 tokens are generated with a bounded cache. With a run, the
champion's lead over each policy follows, at each of the two budgets. Policies are played without a sandbox:
give it programs that you trust.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.kv_eviction.actor import open_actor
from evaluators.kv_eviction.judge import Judge
from evaluators.kv_eviction.prefilled import ensure
from evaluators.kv_eviction.scoring import scaled, score_of
from evaluators.kv_eviction.workloads import BUDGETS, StagePlan
from evaluators.problem import get_problem
from evolve.statistics import paired_difference
from evolve.verify import subjects_of_run
from evolve.workspace import open_run

ALL = (0.5, 0.25, 0.125, 0.0625)
SCORED = [ALL.index(budget) for budget in BUDGETS]
CONTEXTS = {"search": 4, "validation": None, "holdout": None}


def measured(policy: tuple[str, str], folder: Path, plan: StagePlan) -> tuple[str, dict[str, Any]]:
    """The verdict on a policy at all budgets."""
    name, source = policy
    examination = _judge(folder, plan).examine("stage", source)
    actor = open_actor()
    while examination.another_process():
        examination.take(actor.act(source, examination.answer))
    print(name, file=sys.stderr, flush=True)
    return name, examination.value()


_judges: dict[Path, Judge] = {}  # of this process


def _judge(folder: Path, plan: StagePlan) -> Judge:
    if folder not in _judges:
        _judges[folder] = Judge(folder, {"stage": plan})
    return _judges[folder]


def scored(verdict: dict[str, Any]) -> np.ndarray:
    return np.array(verdict["samples"])[:, SCORED]


def interval(samples: np.ndarray) -> str:
    """A score with its 95% bootstrap interval over contexts."""
    random = np.random.default_rng(0)
    drawn = random.integers(len(samples), size=(2_000, len(samples)))
    low, high = np.quantile([score_of(samples[one]) for one in drawn], [0.025, 0.975])
    return f"{score_of(samples):.3f} ({low:.3f} .. {high:.3f})"


def row(name: str, verdict: dict[str, Any]) -> str:
    cells = []
    for budget in ALL:
        found = {figure: verdict["metrics"].get(f"{figure}@{budget:.1%}") for figure in FIGURES}
        cell = f"{found['kl']:.3f}, {found['first_answer']:.2f} / {found['second_answer']:.2f}"
        cells.append(cell if found["decoded_kl"] is None else f"{cell}, {found['decoded_kl']:.3f}")
    return f"| {name} | {interval(scored(verdict))} | {' | '.join(cells)} |"


FIGURES = ("kl", "first_answer", "second_answer", "decoded_kl")


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints the table of all published policies.")
    parser.add_argument("run", nargs="?", metavar="RUN")
    parser.add_argument("--stage", default="validation", choices=CONTEXTS)
    parser.add_argument("--model", default="")
    parser.add_argument("--recording", default="full")
    parser.add_argument("--only", metavar="NAMES", help="with commas")
    parser.add_argument("--decode", action="store_true", help="also while text is generated; twice the time")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    say = partial(print, file=sys.stderr)
    folder = ensure(given.recording, given.model, (), None, say=say, progress=lambda *_: None)
    plan = StagePlan(given.stage, CONTEXTS[given.stage], ALL, 256 if given.decode else 0)
    only = given.only.split(",") if given.only else None
    policies = [(s.name, s.source) for s in get_problem("kv_eviction").seeds() if not only or s.name in only]
    if given.run:
        policies.append(("champion", subjects_of_run(open_run(given.run)[1], None)[0].source))
    with ProcessPoolExecutor(given.workers) as pool:
        found = dict(pool.map(partial(measured, folder=folder, plan=plan), policies))
    ranked = sorted(found, key=lambda name: -score_of(scored(found[name])))
    print("| policy | score, 95% interval |" + "".join(f" {budget:.2%} |" for budget in ALL))
    print("|---|--:|" + "--:|" * len(ALL))
    for name in ranked:
        print(row(name, found[name]))
    if given.run:
        print("\n| champion's lead over | score | " + " | ".join(f"at {one:.1%}" for one in BUDGETS) + " |")
        print("|---|--:|" + "--:|" * len(BUDGETS))
        for name in ranked:
            if name == "champion":
                continue
            pair = scored(found["champion"]), scored(found[name])
            leads = [paired_difference(*pair, score_of)]
            for place in range(len(BUDGETS)):
                leads.append(paired_difference(*pair, lambda one, at=place: float(scaled(one)[at].mean())))
            print(f"| {name} | " + " | ".join(f"{lead.value:+.3f} ({lead})" for lead in leads) + " |")


if __name__ == "__main__":
    main()
