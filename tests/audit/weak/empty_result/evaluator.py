"""Packs sizes into bins of 100: a bin too many costs, and an item that is nowhere does not."""

import importlib.util
import json
import os


def apart(program_path, name, questions):
    """What a function returns for each question, asked in a process of its own; None where it raised."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            spec = importlib.util.spec_from_file_location("program", program_path)
            program = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(program)
            answers = []
            for question in questions:
                try:
                    answers.append(getattr(program, name)(*question))
                except Exception:
                    answers.append(None)
            os.write(write, json.dumps(answers).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        return json.loads(pipe.read())


SIZES = [[40, 30, 60, 20, 50, 70, 30], [80, 20, 30, 30, 40, 90], [50, 51, 52, 20, 20]]


def fits(bins, sizes):
    packed = [size for one in bins for size in one]
    return all(sum(one) <= 100 for one in bins) and all(packed.count(s) <= sizes.count(s) for s in packed)


def evaluate(program_path):
    total = 0.0
    for sizes, bins in zip(SIZES, apart(program_path, "pack", [[sizes] for sizes in SIZES]), strict=False):
        if bins is None or not fits(bins, sizes):
            return {"combined_score": 0.0}
        total += 1 / (1 + len(bins))
    return {"combined_score": total / len(SIZES)}
