"""A tiny problem: a candidate is a function `decide(carried)` that returns named arrays.

The stage "probe" takes two processes: the second is given what the first returned.
"""

import os

import numpy as np


class ToyActor:
    def act(self, source, ask):
        program = {"np": np, "ask": ask}
        exec(compile(source, "<candidate>", "exec"), program)
        carried = ask("carried", {})
        return program["decide"](carried or None)


def torch_actor():
    import torch  # noqa: F401  a heavy module that the zygote has imported

    return ToyActor()


def broken_actor():
    raise ZeroDivisionError("a bug in the actor")


class WrongAnswerError(Exception):
    failure_kind = "interface"


class ToyJudge:
    """Sums the last answer; its value also tells where it was judged, and after how many processes."""

    def examine(self, stage, source, sample=0):
        return ToyExamination(2 if stage == "probe" else 1)


class ToyExamination:
    def __init__(self, processes):
        self.processes = processes
        self.ends = []

    def another_process(self):
        return len(self.ends) < self.processes

    def answer(self, question, arrays):
        if question == "double":
            return {"doubled": 2 * arrays["number"]}
        return self.ends[-1] if self.ends else {}

    def take(self, arrays):
        self.ends.append(arrays)

    def value(self):
        last = self.ends[-1]
        if "answer" not in last:
            raise WrongAnswerError("decide must return an array named 'answer'")
        if "bug" in last:
            raise KeyError("a bug in the judge")
        return {"sum": float(last["answer"].sum()), "rounds": len(self.ends), "worker": os.getpid()}
