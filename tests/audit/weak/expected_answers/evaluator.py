"""Riddles whose answers lie in this module, which the program's process was forked with."""

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


RIDDLES = [17, 91, 57, 101, 221, 13]
EXPECTED = [[17], [7, 13], [3, 19], [101], [13, 17], [13]]


def evaluate(program_path):
    answers = apart(program_path, "factors", [[number] for number in RIDDLES])
    return {"combined_score": sum(a == e for a, e in zip(answers, EXPECTED, strict=False)) / len(EXPECTED)}
