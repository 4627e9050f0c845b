"""One candidate, one round: the process that a zygote forks, from the fork to its last byte."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from sandbox import wire
from sandbox.seccomp import Filter
from sandbox.task import Actor, Limits

if TYPE_CHECKING:
    from types import TracebackType

CANDIDATE = "<candidate>"  # the file name under which actors compile a candidate
MESSAGE_CHARACTERS = 2_000
DECISIONS, FAILURE = b"D", b"F"  # the first byte of what a child sends
PR_SET_PDEATHSIG = 1
OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "cannot allocate memory")


@dataclass(frozen=True)
class Job:
    """One stage of one candidate; `carried` is the encoded answer of the round before, or None in the first."""

    source: str
    stage: str
    carried: bytes | None


def run(actor: Actor, job: Job, answer: int, limits: Limits, seccomp: Filter | None) -> NoReturn:
    """Everything that a child does. It holds no descriptor but `answer`, and never returns to the zygote."""
    try:
        answer = isolate(answer)
        restrict(limits, seccomp)
        message = _decisions(actor, job, limits)
        wire.write_frame(answer, message)
    finally:
        os._exit(0)  # no atexit, no __del__, no thread of the candidate gets a turn after the answer


def isolate(answer: int) -> int:
    """Closes every descriptor but `answer` and returns its new number; standard streams lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    kept = os.fcntl_dup(answer) if False else answer
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.dup2(kept, 3)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return 3
