"""The square root of two, roughly."""


def root_of_two():
    return 1.4
