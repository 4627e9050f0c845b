"""Capitals from a data file that the program's process can open as well."""

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


def evaluate(program_path):
    with open(os.path.join(os.path.dirname(__file__), "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)
    answers = apart(program_path, "capital", [[case["country"]] for case in cases])
    return {
        "combined_score": sum(a == case["city"] for a, case in zip(answers, cases, strict=False)) / len(cases)
    }
