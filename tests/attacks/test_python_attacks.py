"""Candidates that turn Python against whoever runs them: patches, frames, collectors, finalisers, clocks."""

# ruff: noqa: E501  (candidates stand on one line where that is the shortest)

import pytest
from attempts import assert_fails, assert_gains_nothing, assert_still_at_work
from bench import GOOD, QUICK, deciding

BUSY = "import time as t\nbegan = t.process_time()\nwhile t.process_time() < began + 0.2: pass\n"

HARMLESS = {
    "a function at exit": (deciding("8", "import atexit, os\natexit.register(os.write, 3, b'x')"), 8),
    "a finaliser at exit": (
        deciding(
            "8", "import os\nclass D:\n    def __del__(self): os.write(3, b'x')\nkept = D()\nnp.kept = kept"
        ),
        8,
    ),
    "a judge among all objects": (
        deciding(
            "sum('Judge' in type(o).__name__ or 'Examination' in type(o).__name__ for o in objects)",
            "import gc\ngc.unfreeze() if hasattr(gc, 'unfreeze') else 0\nobjects = gc.get_objects()",
        ),
        0,
    ),
    "a way out of all subclasses": (
        deciding(
            "found[0]('true') == 0",
            "found = [c.__init__.__globals__['system'] for c in object.__subclasses__() "
            "if 'system' in getattr(c.__init__, '__globals__', {})]",
        ),
        0,
    ),
    "limits in the frames above": (
        deciding(
            "len(open('/proc/self/maps').read()) < 0",
            "import sys, resource\nframe = sys._getframe()\nwhile frame:\n"
            "    if 'limits' in frame.f_locals:\n"
            "        for name in ('memory_bytes', 'cpu_s', 'wall_s'):\n"
            "            object.__setattr__(frame.f_locals['limits'], name, 1 << 60)\n"
            "    frame = frame.f_back\n",
        ),
        0,
    ),
    "a number whose value it changes for all": (
        deciding("3", "import ctypes\nctypes.memset(id(1000) + 24, 0, 4)"),
        3,
    ),
    "a collector that never runs": (deciding("2", "import gc\ngc.disable()\ngc.set_threshold(0)"), 2),
    "a tracer": (deciding("2", "import sys\nsys.settrace(lambda *a: None)"), 2),
    "modules that are gone": (
        deciding("2", "import sys\nfor m in list(sys.modules):\n    if m != 'numpy': sys.modules[m] = None"),
        2,
    ),
    "a fork that it may not make, hidden": (
        deciding("0", "import os\ntry: os.fork()\nexcept PermissionError: pass"),
        0,
    ),
}

# What they patch is theirs alone: each ends as whatever it may, and the next candidate finds all as ever.
PATCHES = {
    "numpy": "np.ones = lambda n: np.zeros(n)",
    "the end of its process": "import os\nos._exit = lambda code: None",
    "the end of its process, and every other call": (
        "import os, select\nos._exit = lambda code: None\nos.close = os.kill = os.pidfd_open = lambda *a: 0\n"
        "select.select = lambda *a: ([0], [], [])"
    ),
    "the wire": "from sandbox import wire\nwire.write_frame = lambda *a: 1 / 0",
    "how failures are told": "from sandbox import child\nchild.describe = lambda *a: ['sandbox', 'x']\nraise ValueError",
    "its limits": "import resource\nresource.setrlimit = lambda *a: None",
    "the actor": "import toy_problem\ntoy_problem.ToyActor.act = lambda *a: {'answer': np.full(1, 99.0)}",
    "signals": "import signal\nfor n in range(1, 32):\n    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)",
    "the import system": "import builtins\nbuiltins.__import__ = None",
    "exceptions": "import builtins\nbuiltins.BaseException = builtins.Exception = int\nraise ValueError",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_trick_gains_nothing_and_the_pool_goes_on(toy, name):
    assert_gains_nothing(toy, HARMLESS[name])


@pytest.mark.parametrize("name", PATCHES)
def test_patch_is_gone_with_the_candidate(toy, name):
    before = toy.run(GOOD).value
    toy.run(f"{PATCHES[name]}\n{GOOD}")
    assert toy.run(GOOD).value == before


def test_patched_clock_does_not_change_what_is_measured(toy):
    patch = "import time\nfor name in ('time', 'monotonic', 'perf_counter', 'process_time'):\n"
    patch += "    setattr(time, name, lambda: 0.0)"
    outcome = toy.run(deciding("1", BUSY + patch))
    assert outcome.failure is None, outcome.message
    assert 0.2 <= outcome.cpu_s < 1
    assert 0.2 <= outcome.wall_s < QUICK.wall_s


def test_limits_hold_after_their_object_is_changed(toy):
    source = HARMLESS["limits in the frames above"][0].replace(
        "def decide", "x = bytearray(1 << 30)\ndef decide"
    )
    assert_fails(toy, (source, "memory", "MemoryError"))


def test_second_round_finds_nothing_of_the_first_but_its_arrays(toy):
    source = """
def decide(carried):
    if carried is None:
        np.note = 42
        return {"answer": np.ones(1)}
    return {"answer": carried["answer"] + hasattr(np, "note")}
"""
    assert toy.run(source, "probe").value["sum"] == 1


HIDING = {
    "an attribute of a module": ("np.note = 1", "hasattr(np, 'note')"),
    "an attribute of a class": (
        "import toy_problem\ntoy_problem.ToyActor.note = 1",
        "hasattr(__import__('toy_problem').ToyActor, 'note')",
    ),
    "an environment variable": ("import os\nos.environ['NOTE'] = '1'", "'NOTE' in __import__('os').environ"),
    "the name of its process": (
        "import ctypes\nctypes.CDLL(None).prctl(15, b'note')",
        "open('/proc/self/comm').read() == 'note\\n'",
    ),
    "an open file": ("import os\nos.dup2(0, 9)", "__import__('os').path.exists('/proc/self/fd/9')"),
    "the working folder": ("import os\nos.chdir('/tmp')", "__import__('os').getcwd() == '/tmp'"),
    "a mask for new files": ("import os\nos.umask(0o123)", "__import__('os').umask(0) == 0o123"),
    "a signal that is ignored": (
        "import signal\nsignal.signal(12, signal.SIG_IGN)",
        "__import__('signal').getsignal(12) == 1",
    ),
    "a lowered limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (33, 33))",
        "__import__('resource').getrlimit(7) == (33, 33)",
    ),
    "a sequence of random numbers": ("np.random.seed(7)", "np.random.random() == 0.07630828937395717"),
    "a mapped page": (
        "import mmap\nnp.page = mmap.mmap(-1, 4096)\nnp.page[0] = 1",
        "hasattr(np, 'page')",
    ),
}


@pytest.mark.parametrize("name", HIDING)
def test_nothing_is_remembered_from_one_process_to_the_next(toy, name):
    note, look = HIDING[name]
    found = deciding(f"float({look})")
    outcome = toy.run(
        f"{found}\nfirst = decide\ndef decide(c):\n    answer = first(c)\n    exec({note!r}, globals())\n    return answer",
        "probe",
    )
    assert outcome.failure is None, outcome.message
    assert outcome.value["sum"] == 0
    assert toy.run(found).value["sum"] == 0


def test_arrays_carried_to_the_second_round_cannot_be_changed(toy):
    source = """
def decide(carried):
    if carried is not None:
        carried["answer"][0] = 9
    return {"answer": np.ones(1)}
"""
    assert "read-only" in toy.run(source, "probe").message
    assert_still_at_work(toy)
