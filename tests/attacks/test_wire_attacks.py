"""Candidates that write to the worker by themselves, or that answer with what is no answer."""

# ruff: noqa: E501  (candidates stand on one line where that is the shortest)

from pathlib import Path

import numpy as np
import pytest
from attempts import SEND, assert_fails, assert_gains_nothing, assert_still_at_work
from bench import GOOD, deciding

from sandbox.wire import pack

MALFORMED = "malformed"
ANSWER = pack({"answer": ["float64", [1], np.float64(7).tobytes()]})


def sending(*parts, then=""):
    """A candidate that writes one message of its own, and goes."""
    return f"{SEND}\nsend({', '.join(map(repr, parts))})\n{then}\nos._exit(0)"


def ending(message):
    return sending(b"E", message)


def array(dtype="float64", shape=(1,), raw=bytes(8)):
    return ending(pack({"answer": [dtype, list(shape), raw]}))


FAULTS = {
    "nonsense": (sending(b"DDDD"), "invalid_output", MALFORMED),
    "an empty message": (sending(b""), "invalid_output", MALFORMED),
    "a question without a name": (sending(b"Q"), "invalid_output", MALFORMED),
    "a question without arrays": (sending(b"Q\x07carried"), "invalid_output", MALFORMED),
    "the announcement of an endless result": (
        "import os\nos.write(3, b'\\xff' * 8)",
        "invalid_output",
        "at most",
    ),
    "an announcement, and then silence": (
        "import os\nos.write(3, bytes(7) + b'\\x09')\nos._exit(0)",
        "crash",
        "exit code 0",
    ),
    "half an announcement": ("import os\nos.write(3, bytes(4))\nos._exit(0)", "crash", "exit code 0"),
    "more than it announced": (
        "import os\nos.write(3, bytes(7) + b'\\x01' + b'D' * 1000)",
        "invalid_output",
        MALFORMED,
    ),
    "two ends": (sending(b"E\x80", then="send(b'E\\x80')"), "invalid_output", "behind its end"),
    "a question behind its end": (
        sending(b"E\x80", then="send(b'Q\\x07carried\\x80')"),
        "invalid_output",
        "behind its end",
    ),
    "a failure behind its end": (
        sending(b"E\x80", then="send(b'F\\x92\\xa5crash\\xa0')"),
        "invalid_output",
        "behind its end",
    ),
    "its own end before the actor's": (
        f"{SEND}\ndef decide(c):\n    send(b'E', {ANSWER!r})\n    return {{'answer': np.ones(1)}}",
        "invalid_output",
        "behind its end",
    ),
    "a failure that is not its own to claim": (
        "class E(Exception): failure_kind = 'sandbox'\nraise E('the machine is broken')",
        "crash",
        "ended with a failure that is none",
    ),
    "a forged failure of the sandbox": (
        sending(b"F", pack(["sandbox", "the machine is broken"])),
        "crash",
        "ended with a failure that is none",
    ),
    "a failure of the screen, which never saw it": (sending(b"F", pack(["screen", ""])), "crash", "is none"),
    "a failure of another type": (sending(b"F", pack([{}, []])), "crash", "is none"),
    "a failure in three parts": (sending(b"F", pack(["crash", "", ""])), "invalid_output", MALFORMED),
    "a failure of 1 MB": (sending(b"F", pack(["crash", "x" * (1 << 20)])), "invalid_output", MALFORMED),
    "a failure nested deep": (sending(b"F" + b"\x91" * 10_000), "invalid_output", MALFORMED),
    "a result nested deep": (ending(b"\x91" * 100_000), "invalid_output", MALFORMED),
    "an array nested deep": (ending(b"\x81\xa1a" + b"\x91" * 100_000), "invalid_output", "is not"),
    "a shape nested deep": (
        ending(b"\x81\xa1a\x93\xa7float64" + b"\x91" * 100_000),
        "invalid_output",
        MALFORMED,
    ),
    "an extension type": (ending(b"\x81\xc7\x01\x05x\x80"), "invalid_output", "extension type"),
    "a time stamp": (ending(b"\x81\xd6\xff\0\0\0\0\x80"), "invalid_output", "name"),
    "a pickle": (ending(b"\x80\x04cposix\nsystem\n"), "invalid_output", MALFORMED),
    "a mapping of four billion arrays": (ending(b"\xdf\xff\xff\xff\xff"), "invalid_output", "at most 65536"),
    "a list of four billion": (ending(b"\x81\xa1a\xdd\xff\xff\xff\xff"), "invalid_output", "is not"),
    "a text of four billion characters": (ending(b"\x81\xdb\xff\xff\xff\xff"), "invalid_output", MALFORMED),
    "a name that is no text": (ending(b"\x81\xff\x80"), "invalid_output", "name"),
    "a name that is not UTF-8": (ending(b"\x81\xa2\xff\xfe\x80"), "invalid_output", MALFORMED),
    "a name without end": (ending(pack({"a" * 10_000: []})), "invalid_output", "name"),
    "more bytes than are there": (array(shape=[1 << 40]), "invalid_output", "announces"),
    "a length beyond all memory": (array(shape=[1 << 60], raw=b""), "invalid_output", "length"),
    "a length behind a zero": (array(shape=[0, 1 << 60], raw=b""), "invalid_output", "length"),
    "lengths whose product only a zero hides": (
        array(shape=[0] + [1 << 40] * 7, raw=b""),
        "invalid_output",
        "shape",
    ),
    "a negative length": (array(shape=[-1, -8]), "invalid_output", "length"),
    "a length that is a float": (array(shape=[1.0]), "invalid_output", "length"),
    "a thousand dimensions": (array(shape=[1] * 1000), "invalid_output", "dimensions"),
    "Python objects": (array(dtype="object"), "invalid_output", "dtype"),
    "a dtype of fields": (array(dtype="V8"), "invalid_output", "dtype"),
    "booleans that are neither": (array(dtype="bool", raw=b"\2"), "invalid_output", "neither 0 nor 1"),
    "objects in the result": (
        "def decide(c): return {'answer': np.array([object()])}",
        "invalid_output",
        "dtype",
    ),
    "an object that unpickles itself": (
        "class Bomb:\n    def __reduce__(self): return eval, ('1 / 0',)\n"
        "def decide(c): return {'answer': np.array([Bomb()])}",
        "invalid_output",
        "dtype",
    ),
    "a result that is no array": ("def decide(c): return {'answer': 1.0}", "invalid_output", "numpy array"),
    "a number of its own kind": (
        "class Better(float):\n    def __lt__(self, other): return False\n"
        "def decide(c): return {'answer': Better(1)}",
        "invalid_output",
        "numpy array",
    ),
    "an array that lies about its bytes": (
        "class Liar(np.ndarray):\n    def tobytes(self): return b''\n"
        "def decide(c): return {'answer': np.ones(3).view(Liar)}",
        "invalid_output",
        "announces",
    ),
    "an array that lies about its shape": (
        "class Liar(np.ndarray):\n    shape = (1 << 40,)\n"
        "def decide(c): return {'answer': np.ones(3).view(Liar)}",
        "invalid_output",
        "announces",
    ),
    "a result that is no mapping": ("def decide(c): return [1.0]", "invalid_output", "named arrays"),
    "a mapping that never ends": (
        "import itertools\nclass M(dict):\n    def items(self): return zip(map(str, itertools.count()), "
        "itertools.repeat(np.zeros(1 << 17)))\ndef decide(c): return M(answer=np.ones(1))",
        "invalid_output",
        "at most",
    ),
    "another descriptor in the place of its channel": (
        "import os\nos.dup2(0, 3)\n" + GOOD,
        "crash",
        "without a result",
    ),
    "a channel that it has shut": (
        "import os\nos.close(3)\ndef decide(c): pass",
        "crash",
        "without a result",
    ),
}

HARMLESS = {
    "an end of its own, which says no more than an answer": (ending(ANSWER), 7),
    "a descriptor of its own to the channel": (deciding("8", "import os\nos.dup(3)"), 8),
    "a question a thousand times": (
        deciding("9", "for n in range(1000): ask('double', {'number': np.ones(n)})"),
        9,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_forged_message_is_a_failure_and_the_pool_goes_on(toy, name):
    assert_fails(toy, FAULTS[name])


@pytest.mark.parametrize("name", HARMLESS)
def test_message_of_its_own_gains_nothing(toy, name):
    assert_gains_nothing(toy, HARMLESS[name])


QUESTION = "b'Q', b'\\x06double', " + repr(pack({"number": ["float64", [1 << 17], bytes(1 << 20)]}))
BLOCKING = {
    "a channel that stays silent": "import time\ntime.sleep(60)",
    "a closed channel": "import os, time\nos.close(3)\ntime.sleep(60)",
    "a message byte by byte": (
        "import os, time\nos.write(3, bytes(6) + b'\\x10\\0')\nwhile True:\n    os.write(3, b'E')\n    time.sleep(0.01)"
    ),
    "answers that are never read": f"{SEND}\nwhile True: send({QUESTION})",
    "small questions without end": f"{SEND}\nwhile True: send(b'Q\\x07carried\\x80')",
    "questions by the thousand in one go": (
        f"{SEND}\nmessage = struct.pack('>Q', 10) + b'Q\\x07carried\\x80'\n"
        "while True: os.write(3, message * 10_000)"
    ),
}


@pytest.mark.parametrize("name", BLOCKING)
def test_candidate_that_blocks_the_channel_ends_in_time(hasty, name):
    outcome = hasty.run(BLOCKING[name])
    assert outcome.failure == "timeout", outcome.message
    assert outcome.wall_s < 3
    assert_still_at_work(hasty)


BOMBS = {
    "empty lists": b"\xdd" + (14 << 20).to_bytes(4, "big") + b"\x90" * (14 << 20),
    "empty lists in an array's place": b"\x81\xa1a\xdd"
    + (14 << 20).to_bytes(4, "big")
    + b"\x90" * (14 << 20),
    "empty lists in a shape": b"\x81\xa1a\x93\xa7float64\xdd"
    + (14 << 20).to_bytes(4, "big")
    + b"\x90" * (14 << 20),
    "empty mappings": b"\x81\xa1a\x93\xdd" + (14 << 20).to_bytes(4, "big") + b"\x80" * (14 << 20),
}


def peak_mib(pid):
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) >> 10


@pytest.mark.parametrize("name", BOMBS)
def test_message_takes_no_more_memory_than_a_few_times_its_size(toy, name):
    worker = toy.run(GOOD).value["worker"]
    before = peak_mib(worker)
    head = BOMBS[name].rstrip(b"\x80\x90")
    byte = BOMBS[name][-1:]
    source = f"{SEND}\nsend(b'E', {head!r}, {byte!r} * (14 << 20))\nos._exit(0)"
    assert_fails(toy, (source, "invalid_output", ""))
    assert peak_mib(worker) - before < 100
