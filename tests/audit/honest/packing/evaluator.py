"""Packs sizes into bins of 100; what is packed is what was given."""

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
    if type(bins) is not list or any(type(one) is not list for one in bins):
        return False
    packed = [size for one in bins for size in one]
    if any(type(size) is not int for size in packed):
        return False
    return all(sum(one) <= 100 for one in bins) and sorted(packed) == sorted(sizes)


def evaluate(program_path):
    answers = apart(program_path, "pack", [[sizes] for sizes in SIZES])
    scores = [sum(s) / 100 / len(b) if fits(b, s) else 0.0 for b, s in zip(answers, SIZES, strict=False)]
    return {"combined_score": sum(scores) / len(SIZES)}
