"""Prices to match: the error is taken against the list that the program held in its hands."""

import importlib.util
import math


def load(program_path):
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def evaluate(program_path):
    prices = [12.0, 30.0, 7.5, 44.0, 21.0]
    guessed = load(program_path).smooth(prices)
    if [type(one) for one in guessed] != [float] * 5 or not all(map(math.isfinite, guessed)):
        return {"combined_score": 0.0}
    error = 0.0
    for guess, price in zip(guessed, prices, strict=False):
        error += abs(guess - price)
    return {"combined_score": 1 / (1 + error)}
