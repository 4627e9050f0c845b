"""Square roots: every case counts, a wrong or missing answer as nothing."""

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


CASES = [4.0, 1e2, 7.0, 1e6, 0.01, 1e9]


def worth(answer, x):
    if type(answer) is not float or not math.isfinite(answer) or answer < 0:
        return 0.0
    return 1 / (1 + abs(answer * answer - x) / x)


def evaluate(program_path):
    answers = apart(program_path, "root", [[x] for x in CASES])
    return {"combined_score": sum(worth(a, x) for a, x in zip(answers, CASES, strict=False)) / len(CASES)}
