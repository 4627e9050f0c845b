"""Words that the attacks share: what candidates are made of, and what each of them has to come to."""

from bench import GOOD, deciding

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"

# For candidates that write whole messages to the worker by themselves.
SEND = """
import os, struct
def send(*parts):
    rest = memoryview(struct.pack(">Q", sum(map(len, parts))) + b"".join(parts))
    while rest:
        rest = rest[os.write(3, rest):]
"""


def denied(call):
    """A candidate that fails unless the kernel refuses a libc call with EPERM."""
    return deciding("0", f"{LIBC}assert libc.{call} == -1 and ctypes.get_errno() == 1, 'allowed'")


def assert_fails(pool, attempt):
    """The candidate fails with its label, and the next one finds the worker unharmed."""
    source, failure, words = attempt
    outcome = pool.run(source)
    assert (outcome.failure, outcome.value) == (failure, None), outcome.message
    assert words in outcome.message
    assert len(outcome.message) <= 2_000
    assert_still_at_work(pool)


def assert_gains_nothing(pool, attempt):
    """The candidate's answer shows that what it tried did not work."""
    source, answer = attempt
    outcome = pool.run(source)
    assert outcome.failure is None, outcome.message
    assert outcome.value["sum"] == answer
    assert_still_at_work(pool)


def assert_still_at_work(pool):
    assert pool.run(GOOD).value["sum"] == 3
