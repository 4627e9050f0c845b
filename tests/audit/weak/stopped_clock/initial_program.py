"""The sum of the first squares, by adding them up."""


def sum_of_squares(n):
    total = 0
    for _ in range(100):  # slow, so that a clock that stands still pays far beyond noise
        total = 0
        for i in range(1, n + 1):
            total += i * i
    return total
