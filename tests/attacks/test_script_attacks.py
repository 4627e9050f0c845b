"""Neither a program nor its evaluator gets at what was not granted, and a program not at its score."""

import os
from pathlib import Path

import pytest

from tests.evaluators.script.conftest import evaluated  # noqa: F401  a fixture

PROGRAM = "def value():\n    return 1.0\n"


def told(evaluated, evaluator, program=PROGRAM, **given):  # noqa: F811
    """What an evaluator said in its text `said`."""
    outcome = evaluated(program, evaluator, **given)
    assert outcome.value is not None, outcome
    (line,) = [line for line in outcome.value["feedback"].splitlines() if line.startswith("said: ")]
    return line.removeprefix("said: ")


TRIES = """
def evaluate(path):
    try:
        said = str({expression})
    except Exception as error:
        said = type(error).__name__
    return {{"combined_score": 1.0, "said": said}}
"""
ATTEMPTS = {
    "the network": ("__import__('socket').socket(2, 1)", "PermissionError"),
    "files of the system": ("open('/etc/passwd').read()", "FileNotFoundError"),
    "its own folder": ("__import__('os').listdir(__import__('os').path.dirname(__file__))", None),
    "changing itself": ("open(__file__, 'w')", "OSError"),
    "the environment": ("[k for k in __import__('os').environ if 'KEY' in k or 'USER' in k]", "[]"),
    "other processes": ("open('/proc/1/environ').read()", "PermissionError"),
    "its way to the judge": ("__import__('os').read(3, 1)", "OSError"),
    "a namespace": ("__import__('os').unshare(0x10000000)", None),
    "the project's archive": ("__import__('database').__file__", "ModuleNotFoundError"),
}


@pytest.mark.parametrize("processes", [2, 1])
@pytest.mark.parametrize("what", ATTEMPTS)
def test_an_evaluator_does_not_get_at(evaluated, what, processes):  # noqa: F811
    expression, error = ATTEMPTS[what]
    said = told(evaluated, TRIES.format(expression=expression), processes=processes)
    if what == "its own folder":  # only the evaluator itself was mapped
        assert said.startswith("['evaluator")
        assert "initial" not in said
    elif what == "a namespace":
        assert said in ("AttributeError", "PermissionError", "OSError")
    else:
        assert said == error or (error == "OSError" and said.endswith("Error"))


def test_what_is_declared_can_be_read_but_not_written(evaluated, tmp_path):  # noqa: F811
    folder = tmp_path / "cases"
    folder.mkdir()
    (folder / "one.txt").write_text("41")
    reads = TRIES.format(expression=f"open({str(folder / 'one.txt')!r}).read()")
    writes = TRIES.format(expression=f"open({str(folder / 'one.txt')!r}, 'w')")
    assert told(evaluated, reads) == "FileNotFoundError"
    assert told(evaluated, reads, data=(str(folder),)) == "41"
    assert told(evaluated, writes, data=(str(folder),)) == "OSError"
    assert told(evaluated, reads, data=(str(folder),)) == "41"  # also after /tmp was emptied


@pytest.mark.parametrize("processes", [2, 1])
def test_nothing_is_left_for_the_next_evaluation(evaluated, processes):  # noqa: F811
    evaluator = """
        import os, subprocess, sys, time
        def evaluate(path):
            places = ("/tmp/note", "/tmp/kvolve/note", "/dev/shm/note", "/tmp/shut/in")
            found = [place for place in places if os.path.exists(place)]
            for place in ("/tmp/note", "note", "/dev/shm/note"):
                open(place, "w").close()
            os.makedirs("/tmp/shut/in")
            os.chmod("/tmp/shut", 0)
            processes = [p for p in os.listdir("/proc") if p.isdigit()]
            running = [p for p in processes if b"sleep(99)" in open(f"/proc/{p}/cmdline", "rb").read()]
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], start_new_session=True)
            return {"combined_score": 1.0, "said": f"{found} {running}"}
    """
    for _ in range(3):
        assert told(evaluated, evaluator, processes=processes) == "[] []"


def test_a_program_cannot_see_its_evaluator(evaluated, tmp_path):  # noqa: F811
    program = """
        import sys
        def value():
            for place in (PLACE, "/tmp/kvolve/.program"):
                try:
                    open(place)
                    return 1e9
                except OSError:
                    pass
            return 1e9 if "evaluator" in sys.modules else 1.0
    """.replace("PLACE", repr(str(tmp_path / "evaluator0.py")))
    assert evaluated.score(program, "def evaluate(path): return {'x': load(path).value()}") == 1.0


CHEATS = {
    "patches whatever the scorer calls": """
        import builtins, math, sys
        def value():
            for module in list(sys.modules.values()):
                for name in ("evaluate", "score", "fsum", "sum", "abs"):
                    if hasattr(module, name):
                        setattr(module, name, lambda *_: {"combined_score": 1e9})
            return 1.0
    """,
    "writes to the judge itself": """
        import os
        def value():
            os.write(3, b"\\0" * 7 + b"\\1E")
            return 1.0
    """,
    "leaves something for the end": """
        import atexit, os
        atexit.register(os.write, 3, b"x")
        def value():
            return 1.0
    """,
    "forges its description": """
        value = 1.0
        __getattr__ = lambda name: 1e9
    """,
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_program_that_cheats_earns_no_more(evaluated, cheat):  # noqa: F811
    evaluator = """
        import math
        def evaluate(path):
            value = load(path).value
            found = value() if callable(value) else 0.0
            return {"combined_score": math.fsum([min(abs(found), 1.0)])}
    """
    for program in (CHEATS[cheat], PROGRAM):
        outcome = evaluated(program, evaluator)
        assert outcome.failure in ("invalid_output", "crash") or outcome.value["score"] <= 1.0
    assert outcome.value["score"] == 1.0  # nor does anybody who comes after it


def test_a_program_in_one_process_gets_no_further_than_its_evaluator(evaluated, tmp_path):  # noqa: F811
    (tmp_path / "secret").write_text("x")
    program = f"""
        def value():
            import socket
            found = []
            for attempt in (lambda: socket.socket(2, 1), lambda: open({str(tmp_path / "secret")!r}),
                            lambda: open("/etc/passwd"), lambda: open({str(Path(__file__))!r})):
                try:
                    attempt()
                    found.append(1)
                except OSError:
                    pass
            return float(sum(found))
    """
    evaluator = "def evaluate(path): return {'combined_score': load(path).value()}"
    assert evaluated.score(program, evaluator, processes=1) == 0.0


def test_with_the_network_granted_the_evaluator_has_it_and_the_program_not(evaluated):  # noqa: F811
    program = """
        import socket
        def value():
            try:
                socket.socket(2, 1)
            except OSError:
                return 0.0
            return 1.0
    """
    evaluator = """
        import socket
        def evaluate(path):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as mine, socket.socket() as other:
                mine.bind(("127.0.0.1", 0))
                mine.listen()
                other.connect(mine.getsockname())
            return {"combined_score": load(path).value(), "said": str(len(socket.if_nameindex()))}
    """
    said = told(evaluated, evaluator, program, network=True)
    assert int(said) == len(os.listdir("/sys/class/net"))
    assert evaluated.score(program, evaluator, network=True) == 0.0
