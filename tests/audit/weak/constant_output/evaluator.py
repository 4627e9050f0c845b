"""Which texts are about numbers: the majority of the texts is, and only the share of right answers counts."""

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


TEXTS = [
    "3 plus 4",
    "two by 2",
    "7 less 1",
    "9 over 3",
    "no figures",
    "5 and 5",
    "six and 1",
    "8 or 9",
    "four",
    "x 7",
]


def evaluate(program_path):
    answers = apart(program_path, "about_numbers", [[text] for text in TEXTS])
    right = [any(word.isdigit() for word in text.split()) for text in TEXTS]
    return {"combined_score": sum(a is r for a, r in zip(answers, right, strict=False)) / len(TEXTS)}
