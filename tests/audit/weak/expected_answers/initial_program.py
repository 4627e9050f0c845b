"""Prime factors, as far as small ones go."""


def factors(number):
    found = []
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            found.append(prime)
            number //= prime
    return found + [number] * (number > 1)
