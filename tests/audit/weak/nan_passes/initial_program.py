"""The logarithm by a short series."""


def logarithm(x):
    y = (x - 1) / (x + 1)
    return 2 * (y + y**3 / 3 + y**5 / 5)
