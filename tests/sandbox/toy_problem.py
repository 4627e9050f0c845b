"""A tiny problem: a candidate is a function `decide(carried)` that returns named arrays."""

import os

import numpy as np


class ToyActor:
    """`library` names a heavy module that the zygote imports; `file` one that it reads when it starts."""

    def __init__(self, stages, library="numpy"):
        __import__(library)
        self.rounds = {stage: 2 if stage == "probe" else 1 for stage in stages}

    def act(self, source, stage, carried):
        program = {"np": np}
        exec(compile(source, "<candidate>", "exec"), program)
        return program["decide"](carried)


class WrongAnswerError(Exception):
    failure_kind = "interface"


class ToyJudge:
    """Sums the last round's answer; its value also tells where it was judged, and after how many rounds."""

    def __init__(self, stages, library="numpy"):
        self.stages = stages

    def judge(self, stage, rounds):
        last = rounds[-1]
        if "answer" not in last:
            raise WrongAnswerError("decide must return an array named 'answer'")
        if "bug" in last:
            raise KeyError("a bug in the judge")
        return {"sum": float(last["answer"].sum()), "rounds": len(rounds), "worker": os.getpid()}


def broken_actor(stages, library="numpy"):
    raise ZeroDivisionError("a bug in the actor")
