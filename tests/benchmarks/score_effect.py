"""Does the score rank policies as their effect on the model does? `score_effect.py [--contexts C]`.

Every seed of `token_selection` is scored on recorded states and run inside the model that they are of. Prints
for each seed and budget the error and the KL divergence; and for several ways to make one of the errors of
layers Spearman's rank correlation with the KL: over all seeds and budgets, at each budget, and of the mean
of -log10(error) with the mean of -log10(KL). The geometric mean is that of the score.
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
from evaluators.token_selection.scoring import FINE
from evaluators.token_selection.workloads import BUDGETS
from evolve.problems import task_of
from sandbox.task import Limits
from sandbox.worker import Worker

KVOLVE = str(Path(sys.executable).parent / "kvolve")
WAYS = {  # errors of layers [P, B, L] -> one each [P, B]
    "geometric mean of error + 1%": lambda errors: np.exp(np.log(errors + FINE).mean(-1)),
    "mean": lambda errors: errors.mean(-1),
    "root mean square": lambda errors: np.sqrt((errors**2).mean(-1)),
    "worst layer": lambda errors: errors.max(-1),
    "first layer": lambda errors: errors[..., 0],
    "root mean square of the others": lambda errors: np.sqrt((errors[..., 1:] ** 2).mean(-1)),
}


def errors() -> dict[str, tuple[float, np.ndarray]]:
    """The score of each seed on validation, and the errors of its layers at each budget [B, L]."""
    problem = get_problem("token_selection")
    task = task_of(problem, problem.inputs(ensure_full_recording().path))
    worker = Worker(task, Limits(wall_s=120, cpu_s=120))
    found = {}
    try:
        for seed in problem.seeds():
            value = worker.run(seed.source, "validation").value
            if value is None:
                raise SystemExit(f"{seed.name} has no score")
            found[seed.name] = value["score"], np.array(value["samples"]).mean(0)
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
    names = sorted(scored, key=lambda name: -scored[name][0])
    layers, theirs = np.stack([scored[name][1] for name in names]), np.array([kl[name] for name in names])
    chosen, *_ = WAYS.values()
    print(f"{len(scored)} seeds, {given.contexts} contexts of {given.steps} steps inside the model\n")
    print("| policy | score | " + " | ".join(f"{budget:.1%}" for budget in BUDGETS) + " |")
    print("|---|--:|" + "--:|" * len(BUDGETS))
    for name, error, effect in zip(names, chosen(layers), theirs, strict=True):
        cells = " | ".join(f"{one:.3f} / {other:.4f}" for one, other in zip(error, effect, strict=True))
        print(f"| {name} | {scored[name][0]:.3f} | {cells} |")
    print("\n| error of the layers | all | " + " | ".join(f"{b:.1%}" for b in BUDGETS) + " | of the means |")
    print("|---|" + "--:|" * (len(BUDGETS) + 2))
    for way, made in WAYS.items():
        ours = made(layers)
        found = [spearmanr(ours.ravel(), theirs.ravel())]
        found += [spearmanr(ours[:, place], theirs[:, place]) for place in range(len(BUDGETS))]
        found.append(spearmanr(np.log10(ours).mean(1), np.log10(theirs).mean(1)))
        print(f"| {way} | " + " | ".join(f"{one.statistic:.3f}" for one in found) + " |")


if __name__ == "__main__":
    main()
