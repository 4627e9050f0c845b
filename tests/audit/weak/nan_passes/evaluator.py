"""The worst of three errors, found by comparing: a NaN is larger than none of them."""

import importlib.util
import json
import math
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


CASES = [2.0, 3.0, 5.0]


def evaluate(program_path):
    answers = apart(program_path, "logarithm", [[x] for x in CASES])
    worst = 0.0
    for x, answer in zip(CASES, answers, strict=False):
        if type(answer) is not float:
            return {"combined_score": 0.0}
        if abs(answer - math.log(x)) > worst:  # noqa: PLR1730  with max(), a NaN would pass as well
            worst = abs(answer - math.log(x))
    return {"combined_score": 1 / (1 + worst)}
