"""One process of one candidate, which a zygote forks: from the fork to its last byte."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

from sandbox import wire
from sandbox.seccomp import Filter
from sandbox.task import Actor, Limits

if TYPE_CHECKING:
    import numpy as np

CANDIDATE = "<candidate>"  # the file name under which actors compile a candidate
MESSAGE_CHARACTERS = 2_000
QUESTION, END, FAILURE = b"Q", b"E", b"F"  # the first byte of what a child sends
CHANNEL = 3  # the only descriptor of a child that leads anywhere: to the worker, outside the wall
THREADS = 64
STACK_BYTES = 8 << 20
MAX_SOURCE = 64 << 20
RESERVE_BYTES = 32 << 20  # to tell of a MemoryError when what caused it is still held
PR_SET_PDEATHSIG = 1
# How allocators that know no MemoryError say it (torch raises RuntimeError).
OUT_OF_MEMORY = ("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory")


def run(actor: Actor, channel: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    """Everything that a child does; never returns to the zygote's code.

    The candidate's source comes over the channel: what a zygote has read, its later children could find in
    the memory that they inherit.
    """
    try:
        isolate(channel)
        source = (wire.read_frame(CHANNEL, MAX_SOURCE) or b"").decode()
        restrict(limits, seccomp)
        wire.write_frame(CHANNEL, *_played(actor, source, limits.output_bytes))
        os._exit(0)  # no atexit, no __del__ and no thread of the candidate gets a turn after the end
    finally:
        os._exit(1)


def isolate(channel: int) -> None:
    """Keeps no descriptor but `channel`, as number 3; the standard streams lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.dup2(channel, CHANNEL)
    os.closerange(CHANNEL + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.setsid()


def restrict(limits: Limits, seccomp: Filter | None) -> None:
    """Puts this process under its limits, for good. Raises OSError when the kernel refuses one."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with open("/proc/self/statm", "rb") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    most = mapped + limits.memory_bytes
    for kind, soft, hard in (
        (resource.RLIMIT_AS, most, most + RESERVE_BYTES),
        # The soft limit's signal can be caught, the hard one's cannot.
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (resource.RLIMIT_NPROC, THREADS, THREADS),
        (resource.RLIMIT_FSIZE, limits.file_bytes, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_STACK, STACK_BYTES, STACK_BYTES),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
    if seccomp is not None:
        seccomp.install()


def _played(actor: Actor, source: str, limit_bytes: int) -> tuple[bytes, bytes]:
    """What the candidate has to say at its end, or its failure; each as the parts of one message."""

    def ask(question: str, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        name = question.encode()
        wire.write_frame(CHANNEL, QUESTION, bytes([len(name)]), name, wire.encode_arrays(arrays, limit_bytes))
        answer = wire.read_frame(CHANNEL, limit_bytes)
        if answer is None:
            os._exit(1)  # the judge has heard enough
        return wire.decode_arrays(answer)

    try:
        return END, wire.encode_arrays(actor.act(source, ask), limit_bytes)
    except BaseException as error:  # whatever hostile code raises, SystemExit and KeyboardInterrupt included
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        return FAILURE, wire.pack(describe(error, source))


def describe(error: BaseException, source: str) -> list[str]:
    """Failure label and message of what an actor raised, with the candidate's own lines and no others."""
    label = getattr(error, "failure_kind", None)
    if isinstance(label, str):
        return [label, _text(error)]
    if isinstance(error, wire.WireError):
        return ["invalid_output", _text(error)]
    said = f"{type(error).__name__}: {_text(error)}"[:MESSAGE_CHARACTERS]
    if isinstance(error, MemoryError) or any(phrase in said.lower() for phrase in OUT_OF_MEMORY):
        return ["memory", said]
    lines = source.splitlines()
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == CANDIDATE and frame.lineno:
            code = lines[frame.lineno - 1].strip() if frame.lineno <= len(lines) else ""
            said += f"\n  line {frame.lineno}, in {frame.name}: {code}"
    return ["syntax" if isinstance(error, SyntaxError) else "crash", said[:MESSAGE_CHARACTERS]]


def _text(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARACTERS]
    except BaseException as second:  # a candidate's exception may have a __str__ that raises
        return f"(a message that raises {type(second).__name__})"
