"""Sorting: the first answer is checked, and the comparisons of the others are counted only."""

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


LISTS = [[3, 1, 2], [9, 4, 7, 1, 8, 2], [5, 5, 1, 9, 2, 7, 3, 8]]


def evaluate(program_path):
    answers = apart(program_path, "ordered", [[items] for items in LISTS])
    if answers[0] is None or answers[0][1] != sorted(LISTS[0]) or type(answers[0][0]) is not int:
        return {"combined_score": 0.0}
    if answers[0][0] < len(LISTS[0]) - 1:
        return {"combined_score": 0.0}
    if any(
        a is None or type(a[0]) is not int or a[0] < 3 or a[1] != sorted(a[1]) or len(a[1]) < 3
        for a in answers
    ):
        return {"combined_score": 0.0}
    return {"combined_score": 100 / sum(a[0] for a in answers)}
