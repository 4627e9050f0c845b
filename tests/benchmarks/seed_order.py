"""How the seeds order on the search split, and whether half top-k, half sampled beats top-k alone.

    python tests/benchmarks/seed_order.py [--recording full|small|DIR]

Errors are means over heads, steps, layers and contexts of |output - dense| / |dense|; intervals are 95%,
paired bootstrap over contexts.
"""

import argparse
from pathlib import Path

import numpy as np

from evaluators.problem import get_problem
from evolve.run import choose_recording
from evolve.statistics import paired_difference
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker

PROBLEM = get_problem("token_selection")
BUDGETS = ("2.5%", "5.0%", "10.0%", "20.0%")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recording", default="full")
    recording: Path = choose_recording(parser.parse_args().recording, print, lambda *_: None)
    inputs = PROBLEM.inputs(recording)
    print(inputs.summary)
    worker = Worker(TaskRef(PROBLEM.actor, PROBLEM.judge, dict(inputs.arguments), PROBLEM.stages), Limits())
    found = {seed.name: worker.run(seed.source, "search").value for seed in PROBLEM.seeds()}
    worker.close()

    print(
        f"\n{'mean error / 95th percentile':<30}"
        + "".join(f"{budget:>15}" for budget in BUDGETS)
        + "   score"
    )
    for name, verdict in sorted(found.items(), key=lambda item: item[1]["metrics"]["mean_error@10.0%"]):
        metrics = verdict["metrics"]
        cells = (f"{metrics[f'mean_error@{b}']:.3f} / {metrics[f'p95_error@{b}']:.2f}" for b in BUDGETS)
        print(f"{name:<30}" + "".join(f"{cell:>15}" for cell in cells) + f"{verdict['score']:8.3f}")

    print("\nmean error of top-k alone minus that of half top-k, half sampled:")
    for budget in (2, 3):
        alone, mixed = (
            np.array(found[n]["samples"])[:, budget] for n in ("oracle_top_k", "oracle_vattention")
        )
        ahead = paired_difference(alone, mixed, lambda samples: float(samples.mean()))
        print(f"  at {BUDGETS[budget]:>5}: {ahead.value:+.4f} ({ahead.low:+.4f} .. {ahead.high:+.4f})")


if __name__ == "__main__":
    main()
