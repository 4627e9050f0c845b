"""Candidates that crash, hang, or take more than their share; no screen has seen them."""

import pytest
from attempts import assert_fails, assert_gains_nothing
from bench import ENDLESS, GOOD, deciding

FAULTS = {
    "an endless loop": (ENDLESS, "timeout", "CPU"),
    "an endless loop in C": ("sum(range(10 ** 15))", "timeout", "CPU"),
    "an endless loop that ignores the signal of its limit": (
        f"import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n{ENDLESS}",
        "timeout",
        "",
    ),
    "an endless loop that swallows every exception": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "timeout",
        "",
    ),
    "an endless loop in a regular expression": (
        "import re\nre.match('(a+)+$', 'a' * 64 + 'b')",
        "timeout",
        "CPU",
    ),
    "an integer of a billion digits": ("str(7 ** 7 ** 11)", "timeout", "CPU"),
    "a text that grows by doubling": ("x = 'x'\nwhile True: x += x", "memory", "MemoryError"),
    "a list that contains itself, repeated": ("x = [0]\nwhile True: x *= 8", "memory", "MemoryError"),
    "an exception": ("x = 1\nraise ValueError('no idea')", "crash", "line 2, in <module>: raise ValueError"),
    "a syntax error": ("def decide(:", "syntax", "line 1"),
    "brackets nested too deep to parse": ("(" * 10_000, "syntax", "parentheses"),
    "an exit that pretends success": ("import os\nos._exit(0)", "crash", "exit code 0"),
    "SystemExit": ("raise SystemExit(0)", "crash", "SystemExit"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "crash", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit", "crash", "GeneratorExit"),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", "crash", "SIGSEGV"),
    "an abort": ("import os\nos.abort()", "crash", "signal"),
    "an alarm that nobody waits for": (
        f"import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\n{ENDLESS}",
        "crash",
        "SIGALRM",
    ),
    "an alarm that ends it": (
        "import signal\ndef ring(*_): raise SystemExit\nsignal.signal(signal.SIGALRM, ring)\n"
        "def decide(c):\n    signal.setitimer(signal.ITIMER_REAL, 1e-6)\n    while True: pass",
        "crash",
        "SystemExit",
    ),
    "8 GB in one array": ("np.ones(1 << 30)", "memory", "Unable to allocate"),
    "8 GB in one string": ("x = bytearray(8 << 30)", "memory", "MemoryError"),
    "8 GB of address space": ("import mmap\nmmap.mmap(-1, 8 << 30)", "memory", "Cannot allocate memory"),
    "memory in small pieces": ("x = []\nwhile True: x.append(bytearray(1 << 22))", "memory", "MemoryError"),
    "memory in files of the kernel": (
        "import os\nfor _ in range(50): os.write(os.memfd_create('x'), bytes(32 << 20))",
        "crash",
        "Operation not permitted",
    ),
    "more bytes than there are, by shape": ("np.empty(1 << 57)", "memory", "Unable to allocate"),
    "more bytes than can be counted, by shape": ("np.empty((1 << 40, 1 << 40))", "crash", "too big"),
    "a result of 100 MB": (
        "def decide(c): return {'answer': np.zeros(100 << 20, np.uint8)}",
        "invalid_output",
        "",
    ),
    "a result of 8 TB that takes no memory": (
        "def decide(c): return {'answer': np.broadcast_to(1.0, 1 << 40)}",
        "invalid_output",
        "at most",
    ),
    "a result of more arrays than can be named": (
        "def decide(c): return {str(n): np.zeros(0) for n in range(70_000)}",
        "invalid_output",
        "at most 65536",
    ),
    "an exception with a message of 100 MB": (
        "raise ValueError('x' * (100 << 20))",
        "crash",
        "ValueError: xxx",
    ),
    "an exception whose text raises": (
        "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
        "crash",
        "raises SystemExit",
    ),
    "deep recursion": ("def f(): f()\nf()", "crash", "RecursionError"),
    "a stack overflow": (
        "x = ()\nfor _ in range(4 * 10**5): x = (x,)\nhash(x)",
        "crash",
        "SIGSEGV",
    ),
    "threads without end": (
        "import threading\nwhile True: threading.Thread(target=threading.Event().wait).start()",
        "crash",
        "can't start new thread",
    ),
    "descriptors without end": ("import os\nwhile True: os.dup(1)", "crash", "Too many open files"),
    "a fork bomb": ("import os\nwhile True: os.fork()", "crash", "Operation not permitted"),
}

HARMLESS = {
    "100 MB on standard output": (
        deciding("5", "import os\nfor _ in range(100): os.write(1, bytes(1 << 20))"),
        5,
    ),
    "100 MB on standard error": (
        deciding("6", "import os\nfor _ in range(100): os.write(2, bytes(1 << 20))"),
        6,
    ),
    "a thread left behind": (
        deciding("7", "import threading\nthreading.Thread(target=threading.Event().wait).start()"),
        7,
    ),
    "a thread that is busy for ever": (
        deciding("7", "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f).start()"),
        7,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_gets_its_label_and_the_pool_goes_on(toy, name):
    assert_fails(toy, FAULTS[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_excess_costs_nobody_else_and_the_pool_goes_on(toy, name):
    assert_gains_nothing(toy, HARMLESS[name])


def test_endless_sleep_ends_when_its_time_is_over(hasty):
    assert_fails(hasty, ("import time\ntime.sleep(1000)", "timeout", "no result after 1.5 s"))


def test_no_fault_cost_the_worker_its_life(toy):
    first = toy.run(GOOD).value["worker"]
    for name in ("a segmentation fault", "an exit that pretends success", "8 GB in one array"):
        toy.run(FAULTS[name][0])
    assert toy.run(GOOD).value["worker"] == first
