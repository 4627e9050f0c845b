"""A cube root by bisection, a few steps of it."""


def cube_root(x):
    low, high = 0.0, x
    for _ in range(8):
        middle = (low + high) / 2
        if middle**3 < x:
            low = middle
        else:
            high = middle
    return (low + high) / 2
