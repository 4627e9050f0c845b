"""Sums of squares, checked, and paid by time as the program's process measures it."""

import importlib.util
import time


def load(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def evaluate(program_path):
    program = load(program_path)
    began = time.perf_counter()
    for n in (10, 2000, 3000):
        if program.sum_of_squares(n) != n * (n + 1) * (2 * n + 1) // 6:
            return {"combined_score": 0.0}
    return {"combined_score": 1 / (0.01 + max(0.0, time.perf_counter() - began))}
