"""Bound: the smallest pressure that any placement has, proved by an exact solver outside the sandbox."""


def place(load, size_gb, gpus, memory_gb):
    return [0] * len(load)
