"""Cube roots within their bounds, compared as the answers themselves compare."""

import importlib.util


def load(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def evaluate(program_path):
    root = load(program_path).cube_root
    for x in (8.0, 30.0, 2.0):
        if not 0 < root(x) < x:
            return {"combined_score": 0.0}
    error = abs(root(8.0) - 2.0) + abs(root(27.0) - 3.0) + abs(root(64.0) - 4.0)
    return {"combined_score": float(1 / (1 + error))}
