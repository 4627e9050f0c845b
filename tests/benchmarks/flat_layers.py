"""Sampling against top-p, and against top-k whose flat layers stay dense: `flat_layers.py [--contexts C]`.

Oracles inside SmolLM2-135M, all layers at once, at equal traffic: the heaviest tokens (top-k), the same with
most of the budget left to the first layer, whose attention is nearly flat, the fewest tokens of a share of
the attention (top-p), and the heaviest with a uniform sample of the rest (vAttention's core). Prints the KL
divergence of the next token's distribution from that of dense attention, the mean of contexts, and what
sampling gains: the difference of log10(KL), the mean over contexts, with 95% intervals.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.models import DEFAULT_MODEL
from evaluators.problem import get_problem
from evaluators.record_model import FULL_DEPTHS, PREFILL
from evaluators.token_selection import effect
from evaluators.token_selection.actor import open_actor
from evaluators.token_selection.judge import oracles
from evaluators.token_selection.workloads import BUDGETS
from evolve.statistics import mean_interval

FLAT = 20  # times the share of another layer: dense from a budget of 10% on, in 30 layers
SHARES = f"\n    def layer_shares(self, layers):\n        return [{FLAT}.0] + [1.0] * (layers - 1)\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contexts", type=int, default=8)
    parser.add_argument("--steps", default="8")
    given = parser.parse_args()
    seeds = {seed.name: seed.source for seed in get_problem("token_selection").seeds()}
    flat = seeds["oracle_top_k"] + SHARES
    effect.oracles = lambda: oracles() | {flat}  # it sees all scores for free, too
    policies = {
        "top-k": seeds["oracle_top_k"],
        "top-k, flat layer dense": flat,
        "top-p": seeds["oracle_top_p"],
        "top-k and a sample": seeds["oracle_vattention"],
    }
    judge = effect.open_judge(
        model=DEFAULT_MODEL, depths=",".join(map(str, FULL_DEPTHS)), prefill=str(PREFILL), steps=given.steps
    )
    actor = open_actor()
    kl = np.zeros((len(policies), given.contexts, len(BUDGETS)))
    for context in range(given.contexts):
        for number, source in enumerate(policies.values()):
            examination = judge.examine("validation", source, context)
            while examination.another_process():
                examination.take(actor.act(source, examination.answer))
            kl[number, context] = np.mean(examination.value()["kl"], 1)
    print(
        f"| oracle, {given.contexts} contexts | " + " | ".join(f"{budget:.1%}" for budget in BUDGETS) + " |"
    )
    print("|---|" + "--:|" * len(BUDGETS))
    for name, found in zip(policies, kl, strict=True):
        print(f"| {name} | " + " | ".join(f"{value:.4f}" for value in found.mean(0)) + " |")
    print(
        "\n| log10(KL) of top-k and a sample, less that of | "
        + " | ".join(f"{b:.1%}" for b in BUDGETS)
        + " |"
    )
    print("|---|" + "--:|" * len(BUDGETS))
    logs = np.log10(kl + 1e-6)
    for name, found in list(zip(policies, logs, strict=True))[:-1]:
        leads = [mean_interval(logs[-1, :, place] - found[:, place]) for place in range(len(BUDGETS))]
        print(f"| {name} | " + " | ".join(f"{lead.value:+.2f} ({lead})" for lead in leads) + " |")


if __name__ == "__main__":
    main()
