"""Does what holds in one model hold in another? `transfer.py [RUN] [--contexts C] [--steps S] [--workers W]`.

Seeds, and the champion of a run where one is given, run inside the default model and inside the second one,
over the same texts. Prints a Markdown table of their KL divergence from dense attention, and Spearman's rank
correlation of the two models: at each budget, and of the means of log10(KL), which order the rows.
"""

import argparse
import asyncio
import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.models import DEFAULT_MODEL, SECOND_MODEL
from evaluators.problem import get_problem
from evaluators.token_selection.workloads import BUDGETS
from evolve.settings import make_settings
from evolve.verify import Setup, Subject, depths_of, measure, subjects_of_run, task_of
from evolve.workspace import open_run

PROBLEM = get_problem("token_selection")
SEEDS = (
    "oracle_top_k",
    "scissorhands",
    "h2o",
    "token_select",
    "shadowkv",
    "double_sparsity",
    "squeezed_attention",
    "lserve",
    "sparq",
    "streaming_llm",
    "simhash",
    "quest",
    "simhash_sampled",
    "recent_window",
    "uniform_random",
)  # without what was learnt for one model

Made = tuple[list[Subject], tuple[float, ...]]  # policies, and the depths of the layers they were made for


def seeds() -> Made:
    sources = {seed.name: seed.source for seed in PROBLEM.seeds()}
    return [Subject(name, sources[name]) for name in SEEDS], depths_of("full")


def champion(run: str) -> Made:
    _, archive = open_run(run)
    stored = json.loads(archive.run.settings_json)
    recording = make_settings(stored["settings"]).recording
    found, *_ = subjects_of_run(archive, None)
    return [Subject("champion", found.source)], depths_of(recording, stored["splits"]["validation"])


def effects(made: Made, setup: Setup) -> dict[str, list[float]]:
    """The KL divergence of each policy at each budget, inside the model of `setup`."""
    subjects, depths = made

    def tell(done: int, total: int) -> None:
        print(f"{setup.model}: {done} of {total}", file=sys.stderr)

    found = asyncio.run(measure(task_of(PROBLEM, depths, setup), subjects, setup, tell))
    return {name: [effect.kl.value for effect in one.effects] for name, one in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares what policies do to two models.")
    parser.add_argument("run", nargs="?", metavar="RUN")
    parser.add_argument("--contexts", type=int, default=2, metavar="C")
    parser.add_argument("--steps", type=int, default=8, metavar="S")
    parser.add_argument("--workers", type=int, default=2, metavar="W")
    given = parser.parse_args()
    made = [seeds(), *([champion(given.run)] if given.run else [])]
    kl: list[dict[str, list[float]]] = []
    for model in (DEFAULT_MODEL, SECOND_MODEL):
        setup = Setup(model, "validation", given.contexts, 2048, given.steps, (), 0, 0, given.workers)
        kl.append({name: row for one in made for name, row in effects(one, setup).items()})
    ours, theirs = (np.array(list(one.values())) for one in kl)  # [policies, budgets]
    means = [np.log10(one).mean(1) for one in (ours, theirs)]
    print("| policy | " + " | ".join(f"{budget:.1%}" for budget in BUDGETS) + " | mean of log10(KL) |")
    print("|---" + "|--:" * (len(BUDGETS) + 1) + "|")
    names = list(kl[0])
    for row in np.argsort(means[0]):
        pairs = [f"{one:.4f} / {other:.4f}" for one, other in zip(ours[row], theirs[row], strict=True)]
        print(f"| {names[row]} | {' | '.join(pairs)} | {means[0][row]:.2f} / {means[1][row]:.2f} |")
    for place, budget in enumerate(BUDGETS):
        print(f"at {budget:.1%}: {spearmanr(ours[:, place], theirs[:, place]).statistic:.3f}")
    print(f"of the means: {spearmanr(*means).statistic:.3f}, over {len(names)} policies")


if __name__ == "__main__":
    main()
