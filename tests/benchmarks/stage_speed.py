"""Processor seconds of one stage of each seed, both halves in one process: `stage_speed.py PROBLEM`.

The first play of a stage opens its data and is not counted; medians over three more, on one core.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from evaluators.problem import get_problem
from evolve.problems import task_of
from evolve.run import inputs_of
from evolve.settings import make_settings
from evolve.view import make_view
from sandbox.task import load

PLAYS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description="Prints how long a stage of each seed takes.")
    parser.add_argument("problem")
    parser.add_argument("--stage", default="search")
    parser.add_argument("--recording", default="full")
    parser.add_argument("--only", metavar="NAMES", help="with commas")
    given = parser.parse_args()
    torch.set_num_threads(1)
    problem = get_problem(given.problem)
    settings = make_settings({"problem": given.problem, "recording": given.recording})
    task = task_of(problem, inputs_of(problem, settings, make_view(plain=True)))
    judge, actor = load(task.judge)(**task.arguments), load(task.actor)(**task.inside)

    def play(source: str) -> float:
        begin = time.process_time()
        examination = judge.examine(given.stage, source)
        while examination.another_process():
            examination.take(actor.act(source, examination.answer))
        examination.value()
        return time.process_time() - begin

    seeds = [seed for seed in problem.seeds() if not given.only or seed.name in given.only.split(",")]
    play(seeds[0].source)
    for seed in seeds:
        print(f"{seed.name:28}{statistics.median(play(seed.source) for _ in range(PLAYS)):8.2f}", flush=True)


if __name__ == "__main__":
    main()
