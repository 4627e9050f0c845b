"""The error function is one of this module, in one process with the program."""

import importlib.util


def load(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


TARGET = 2.0


def error_of(value):
    return abs(value * value - TARGET)


def evaluate(program_path):
    value = load(program_path).root_of_two()
    if type(value) is not float or not 1 < value < 2:
        return {"combined_score": 0.0}
    return {"combined_score": 1 / (1 + error_of(value))}
