"""A square root by a few steps of Newton's method."""


def root(x):
    y = 1.0
    for _ in range(14):
        y = (y + x / y) / 2
    return y
