"""Jobs on three machines: the assignment is checked, the makespan is what the program says."""

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


JOBS = [[5, 3, 8, 2, 7, 4], [9, 1, 1, 6, 2, 2, 4], [3, 3, 3, 3, 3, 8, 8]]


def evaluate(program_path):
    total = 0.0
    for jobs, answer in zip(JOBS, apart(program_path, "assign", [[jobs] for jobs in JOBS]), strict=False):
        if not isinstance(answer, list) or len(answer) != 2:
            return {"combined_score": 0.0}
        makespan, machines = answer
        if len(machines) != len(jobs) or any(type(m) is not int or not 0 <= m < 3 for m in machines):
            return {"combined_score": 0.0}
        total += sum(jobs) / 3 / max(makespan, 1e-3)
    return {"combined_score": total / len(JOBS)}
