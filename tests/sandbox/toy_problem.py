"""A tiny problem: a candidate is a function `decide(carried)` that returns named arrays."""

import os

import numpy as np


class ToyActor:
    def __init__(self, stages, torch="no"):
        self.rounds = {stage: 2 if stage == "probe" else 1 for stage in stages}
        self.secret_stages = stages
        if torch == "yes":
            import torch as _  # noqa: F401

    def act(self, source, stage, carried):
        program = {"np": np}
        exec(compile(source, "<candidate>", "exec"), program)
        return program["decide"](carried)


class WrongInput(Exception):
    failure_kind = "interface"


class ToyJudge:
    """Sums what the last round returned; its value also tells how many rounds there were, and its own process."""

    def __init__(self, stages, torch="no"):
        self.stages = stages

    def judge(self, stage, rounds):
        last = rounds[-1]
        if "answer" not in last:
            raise WrongInput("decide must return an array named 'answer'")
        if "explode" in last:
            raise KeyError("a bug in the judge")
        return {"sum": float(last["answer"].sum()), "rounds": len(rounds), "pid": os.getpid(), "stage": stage}
