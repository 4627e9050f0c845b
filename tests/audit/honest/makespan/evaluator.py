"""Jobs on three machines: the makespan is computed here, from the assignment."""

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


def worth(answer, jobs):
    if type(answer) is not list or len(answer) != 2 or type(answer[1]) is not list:
        return 0.0
    machines = answer[1]
    if len(machines) != len(jobs) or any(type(m) is not int or not 0 <= m < 3 for m in machines):
        return 0.0
    carried = [
        sum(job for job, m in zip(jobs, machines, strict=False) if m == machine) for machine in range(3)
    ]
    return sum(jobs) / 3 / max(carried)


def evaluate(program_path):
    answers = apart(program_path, "assign", [[jobs] for jobs in JOBS])
    return {"combined_score": sum(worth(a, jobs) for a, jobs in zip(answers, JOBS, strict=False)) / len(JOBS)}
