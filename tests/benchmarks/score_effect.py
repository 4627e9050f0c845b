"""Does the score rank policies as their effect on the model does? `score_effect.py [--contexts C]`.

Every seed of `token_selection` is scored on recorded states and run inside the model that they are of. Prints
for each seed and budget the error and the KL divergence, and Spearman's rank correlation of the two: over all
of them, at each budget, and of the score with the mean of -log10(KL).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.problem import get_problem
from evaluators.record_model import ensure_full_recording
from evaluators.token_selection.workloads import BUDGETS
from evolve.problems import task_of
from sandbox.task import Limits
from sandbox.worker import Worker

KVOLVE = str(Path(sys.executable).parent / "kvolve")


def errors() -> dict[str, tuple[float, list[float]]]:
    """The score of each seed on validation, and its error at each budget."""
    problem = get_problem("token_selection")
    task = task_of(problem, problem.inputs(ensure_full_recording().path))
    worker = Worker(task, Limits(wall_s=120, cpu_s=120))
    found = {}
    try:
        for seed in problem.seeds():
            value = worker.run(seed.source, "validation").value
            if value is None:
                raise SystemExit(f"{seed.name} has no score")
            metrics = value["metrics"]
            found[seed.name] = value["score"], [metrics[f"error@{budget:.1%}"] for budget in BUDGETS]
    finally:
        worker.close()
    return found


def effects(arguments: list[str]) -> dict[str, list[float]]:
    """The KL divergence of each seed at each budget."""
    command = [KVOLVE, "verify", "token_selection", "--json", *arguments]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    policies = json.loads(shown.stdout)["policies"]
    return {name: [effect["kl"]["value"] for effect in one["text"]] for name, one in policies.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares the score with the effect on the model.")
    parser.add_argument("--contexts", default="4", metavar="C")
    parser.add_argument("--steps", default="16", metavar="S")
    given = parser.parse_args()
    scored = errors()
    kl = effects(["--contexts", given.contexts, "--steps", given.steps])
    print(f"{len(scored)} seeds, {given.contexts} contexts of {given.steps} steps inside the model")
    print(f"{'':28}{'score':>8}" + "".join(f"{f'error, KL at {budget:.1%}':>24}" for budget in BUDGETS))
    for name, (score, error) in sorted(scored.items(), key=lambda item: -item[1][0]):
        pairs = "".join(f"{one:>13.3f}{other:>11.4f}" for one, other in zip(error, kl[name], strict=True))
        print(f"{name:28}{score:>8.4f}{pairs}")
    ours = np.array([scored[name][1] for name in scored])
    theirs = np.array([kl[name] for name in scored])
    print(f"all seeds and budgets: {spearmanr(ours.ravel(), theirs.ravel()).statistic:.3f}")
    for place, budget in enumerate(BUDGETS):
        print(f"at {budget:.1%}: {spearmanr(ours[:, place], theirs[:, place]).statistic:.3f}")
    scores = [scored[name][0] for name in scored]
    print(f"score and mean -log10(KL): {spearmanr(scores, -np.log10(theirs).mean(1)).statistic:.3f}")


if __name__ == "__main__":
    main()
