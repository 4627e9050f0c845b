"""Time of one `select` of each seed over 9 heads and 4,096 tokens at 10% traffic, on one core.

    python tests/benchmarks/select_speed.py [--tokens N] [NAME ...]

Keys and queries are random numbers; medians over 20 steps, in milliseconds.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.recording import prompt_positions
from evaluators.token_selection import standalone
from tests.seeds.policies import SEEDS, begun

STEPS = 20
LAYER = 9  # whose maps are taken


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints how long a step of each seed takes.")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--tokens", type=int, default=4096, metavar="N")
    given = parser.parse_args()
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 3, given.tokens, 64, generator=random)
    positions = torch.tensor(prompt_positions(given.tokens))
    queries = torch.randn(9, len(positions), 64, generator=random)
    cache = standalone.Cache(keys, values, 9)
    for name, seed in SEEDS.items():
        if seed.role == "bound" or (given.names and name not in given.names):
            continue
        _, policy = begun(name, keys, queries, positions, LAYER)
        took = []
        for _ in range(STEPS):
            query = torch.randn(9, 64, generator=random)
            begin = time.perf_counter()
            policy.select(query, cache, 0.1, random)
            took.append(time.perf_counter() - begin)
        print(f"{name:28}{1e3 * statistics.median(took):8.1f}", flush=True)


if __name__ == "__main__":
    main()
