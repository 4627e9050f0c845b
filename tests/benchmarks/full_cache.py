"""What the full cache knows of the facts in its contexts: `full_cache.py [--stage S]`.

Prints the mean negative log-likelihood of answers, in nats a token, by kind of question and by whether it is
asked first or second.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.kv_eviction.judge import open_judge
from evaluators.kv_eviction.prefilled import ensure, prefilled


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints how well the full cache answers.")
    parser.add_argument("--stage", default="search", choices=("search", "validation", "holdout"))
    parser.add_argument("--recording", default="full")
    given = parser.parse_args()
    judge = open_judge(search=str(ensure(given.recording, "", (), None, say=print, progress=lambda *_: None)))
    found = defaultdict(list)
    for context in prefilled(judge.folder, given.stage):
        answers = judge.exact(judge.cached(context)).answers
        for conversation, nats in zip(context.entry.conversations, answers, strict=True):
            for order, (asked, nll) in enumerate(zip(conversation, nats, strict=True)):
                found[asked.kind, order].append(nll)
                found["all", order].append(nll)
    print("| kind | first question | second question |\n|---|--:|--:|")
    for kind in dict.fromkeys(kind for kind, _ in found):
        cells = [
            f"{np.mean(found[kind, n]):.2f} ({len(found[kind, n])})" if found[kind, n] else "" for n in (0, 1)
        ]
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
