"""Candidates that misbehave on purpose, run without the screen, so that isolation is tested by itself.

After each of them the same worker runs an honest candidate.
"""

import pytest
from bench import ENDLESS, GOOD, deciding

LIBC = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def denied(call):
    """A candidate that fails unless the kernel refuses a libc call with EPERM."""
    return deciding("0", f"{LIBC}assert libc.{call} == -1 and ctypes.get_errno() == 1, 'allowed'")


# name: (candidate, failure, words of the message)
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
    "an endless sleep": ("import time\ntime.sleep(1000)", "timeout", "no result after"),
    "an exception": ("x = 1\nraise ValueError('no idea')", "crash", "line 2, in <module>: raise ValueError"),
    "a syntax error": ("def decide(:", "syntax", "line 1"),
    "an exit that pretends success": ("import os\nos._exit(0)", "crash", "exit code 0"),
    "SystemExit": ("raise SystemExit(0)", "crash", "SystemExit"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "crash", "KeyboardInterrupt"),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", "crash", "SIGSEGV"),
    "an abort": ("import os\nos.abort()", "crash", "signal"),
    "8 GB in one array": ("np.ones(1 << 30)", "memory", "Unable to allocate"),
    "8 GB in one string": ("x = bytearray(8 << 30)", "memory", "MemoryError"),
    "memory in small pieces": ("x = []\nwhile True: x.append(bytearray(1 << 22))", "memory", "MemoryError"),
    "a result of 100 MB": (
        "def decide(c): return {'answer': np.zeros(100 << 20, np.uint8)}",
        "invalid_output",
        "",
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
        "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**5): x = [x]\nrepr(x)",
        "crash",
        "SIGSEGV",
    ),
    "threads without end": (
        "import threading\nwhile True: threading.Thread(target=threading.Event().wait).start()",
        "crash",
        "can't start new thread",
    ),
    "a fork bomb": ("import os\nwhile True: os.fork()", "crash", "Operation not permitted"),
    "a socket": ("import socket\nsocket.socket()", "crash", "Operation not permitted"),
    "a download": (
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
        "crash",
        "not permitted",
    ),
    "a file of the system": ("open('/etc/passwd').read()", "crash", "No such file"),
    "the project's history": (f"open({__file__!r}).read()", "crash", "No such file"),
    "a file in /tmp": ("open('/tmp/note', 'w')", "crash", "Operation not permitted"),
    "a file in shared memory": ("open('/dev/shm/note', 'w')", "crash", "Operation not permitted"),
    "a folder": ("import os\nos.mkdir('/tmp/note')", "crash", "Operation not permitted"),
    "a symbolic link": ("import os\nos.symlink('/', '/tmp/root')", "crash", "Operation not permitted"),
    "a note in a folder's time stamp": (
        "import os\nos.utime('/tmp', (1, 1))",
        "crash",
        "Operation not permitted",
    ),
    "a note in a folder's mode": ("import os\nos.chmod('/tmp', 0o700)", "crash", "Operation not permitted"),
    "another program": ("import os\nos.execv('/usr/bin/su', ['su'])", "crash", "Operation not permitted"),
    "killing the zygote": (
        "import os, signal\nos.kill(1, signal.SIGKILL)",
        "crash",
        "Operation not permitted",
    ),
    "killing everything": ("import os\nos.kill(-1, 9)", "crash", "Operation not permitted"),
    "slowing the zygote down": (
        "import os\nos.setpriority(os.PRIO_PROCESS, 1, 19)",
        "crash",
        "not permitted",
    ),
    "starving the zygote": (
        "import resource\nresource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0))",
        "crash",
        "not permitted",
    ),
    "memory of the zygote": ("open('/proc/1/mem', 'rb')", "crash", "Permission denied"),
    "the zygote's pipe to its worker": ("open('/proc/1/fd/0', 'wb')", "crash", "not permitted"),
    "raising its own limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "crash",
        "not allowed to raise",
    ),
    "closing its pipe and going on": (f"import os\nos.close(3)\n{ENDLESS}", "timeout", ""),
    "objects in the result": (
        "def decide(c): return {'answer': np.array([object()])}",
        "invalid_output",
        "dtype",
    ),
    "a result that is no array": ("def decide(c): return {'answer': 1.0}", "invalid_output", "numpy array"),
    "a result that is no mapping": ("def decide(c): return [1.0]", "invalid_output", "named arrays"),
    "nonsense on the pipe": (
        "import os\nos.write(3, b'\\x00' * 7 + b'\\x04DDDD')",
        "invalid_output",
        "malformed",
    ),
    "the announcement of an endless result": (
        "import os\nos.write(3, b'\\xff' * 8)",
        "invalid_output",
        "at most",
    ),
    "more than it announced": (
        "import os\nos.write(3, b'\\x00' * 7 + b'\\x01' + b'D' * 1000)",
        "invalid_output",
        "malformed",
    ),
    "a failure that is not its own to claim": (
        "class E(Exception): failure_kind = 'sandbox'\nraise E('the machine is broken')",
        "crash",
        "ended with a failure that is none",
    ),
}

# Candidates that answer, and what their answer must come to.
HARMLESS = {
    "100 MB on standard output": (
        deciding("5", "import os\nfor _ in range(100): os.write(1, bytes(1 << 20))"),
        5,
    ),
    "a key of the environment": (deciding("'canary' in str(os.environ)", "import os"), 0),
    "other processes": (deciding("sum(p.isdigit() for p in os.listdir('/proc'))", "import os"), 2),
    "a network card": (deciding("open('/proc/net/dev').read().count(':')"), 1),
    "more descriptors than its own": (deciding("len(os.listdir('/proc/self/fd'))", "import os"), 5),
    "a thread left behind": (
        deciding("7", "import threading\nthreading.Thread(target=threading.Event().wait).start()"),
        7,
    ),
    "a function at exit": (deciding("8", "import atexit, os\natexit.register(os.write, 3, b'x')"), 8),
    "ptrace": (denied("ptrace(16, 1, 0, 0)"), 0),
    "unshare": (denied("unshare(0x10000000)"), 0),
    "mount": (denied("mount(b'none', b'/tmp', b'tmpfs', 0, 0)"), 0),
    "shared memory between candidates": (denied("shmget(42, 4096, 0o1666)"), 0),
    "a message queue between candidates": (denied("msgget(42, 0o1666)"), 0),
    "io_uring": (denied("syscall(425, 8, 0)"), 0),
    "bpf": (denied("syscall(321, 0, 0, 0)"), 0),
    "userfaultfd": (denied("syscall(323, 0)"), 0),
    "perf events": (denied("syscall(298, 0, 0, -1, -1, 0)"), 0),
    "the kernel's keyring": (denied("syscall(248, b'user', b'k', b'v', 1, -3)"), 0),
    "reading another process": (denied("process_vm_readv(1, 0, 0, 0, 0, 0)"), 0),
}


def assert_still_at_work(toy):
    assert toy.run(GOOD).value["sum"] == 3


@pytest.mark.parametrize("name", FAULTS)
def test_fault_gets_its_label_and_the_pool_goes_on(toy, name):
    source, failure, words = FAULTS[name]
    outcome = toy.run(source)
    assert (outcome.failure, outcome.value) == (failure, None), outcome.message
    assert words in outcome.message
    assert len(outcome.message) <= 2_000
    assert_still_at_work(toy)


@pytest.mark.parametrize("name", HARMLESS)
def test_attempt_gains_nothing_and_the_pool_goes_on(toy, name):
    source, answer = HARMLESS[name]
    outcome = toy.run(source)
    assert outcome.failure is None, outcome.message
    assert outcome.value["sum"] == answer
    assert_still_at_work(toy)


def test_patched_module_is_whole_again_for_the_next_candidate(toy):
    toy.run(deciding("1", "np.ones = lambda n: np.zeros(n)\nnp.note = 42"))
    assert toy.run(deciding("hasattr(np, 'note')")).value["sum"] == 0
    assert_still_at_work(toy)


def test_second_round_finds_nothing_of_the_first_but_its_arrays(toy):
    source = """
def decide(carried):
    if carried is None:
        np.note = 42
        return {"answer": np.ones(1)}
    return {"answer": carried["answer"] + hasattr(np, "note")}
"""
    assert toy.run(source, "probe").value["sum"] == 1


def test_arrays_carried_to_the_second_round_cannot_be_changed(toy):
    source = """
def decide(carried):
    if carried is not None:
        carried["answer"][0] = 9
    return {"answer": np.ones(1)}
"""
    assert "read-only" in toy.run(source, "probe").message


def test_no_fault_cost_the_worker_its_life(toy):
    first = toy.run(GOOD).value["worker"]
    for name in ("a segmentation fault", "an exit that pretends success", "8 GB in one array"):
        toy.run(FAULTS[name][0])
    assert toy.run(GOOD).value["worker"] == first
