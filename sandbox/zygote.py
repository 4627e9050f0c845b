"""The process inside the wall: it loads an actor once and forks a child for every round of every candidate.

It reads jobs from descriptor 0 and writes answers to a private copy of descriptor 1. It never decodes what a child
sends: it only counts bytes, and hands them on. Its parts of a job are the wall clock, the size of the answer, and
that nothing of a candidate is left when the next one starts.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import select
import signal
import time
import traceback
from dataclasses import dataclass
from typing import Any

from kvolve import KvolveError
from sandbox import child, wire
from sandbox.child import DECISIONS, FAILURE, Job
from sandbox.seccomp import Filter
from sandbox.task import Actor, Limits, load

CONTROL = 0
CHUNK = 1 << 20
MAX_CONTROL = 64 << 20  # settings, or a job with its source
FAILURE_BYTES = 64 << 10
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 4, 36, 1
F_SETPIPE_SZ = 1031


class Cancelled(Exception):
    """The worker gave up on the job that is running."""


class WorkerGone(Exception):
    """The other end of the control pipe was closed."""


@dataclass(frozen=True)
class Answer:
    """What came of one child: its message, or a failure that it could not tell itself."""

    message: bytes | None
    failure: str
    reason: str
    wall_s: float
    cpu_s: float


class Zygote:
    """An actor with its limits, ready to be forked."""

    def __init__(self, actor: Actor, limits: Limits, seccomp: Filter | None) -> None:
        self.actor = actor
        self.limits = limits
        self.seccomp = seccomp

    def evaluate(self, source: str, stage: str) -> dict[str, Any]:
        """The answers of all rounds of one stage as plain values; rounds end with the first failure."""
        rounds: list[bytes] = []
        reply: dict[str, Any] = {"rounds": rounds, "failure": None, "message": "", "wall_s": 0.0, "cpu_s": 0.0}
        carried: bytes | None = None
        for _ in range(self.actor.rounds[stage]):
            answer = self.fork(Job(source, stage, carried))
            reply["wall_s"] += answer.wall_s
            reply["cpu_s"] += answer.cpu_s
            if answer.message is None:
                return reply | {"failure": answer.failure, "message": answer.reason}
            if answer.message[:1] == FAILURE:
                return reply | {"failure": "told", "told": answer.message[1:]}
            carried = answer.message[1:]
            rounds.append(carried)
        return reply

    def fork(self, job: Job) -> Answer:
        """Runs one child to its end, and everything that it may have started."""
        ours, theirs = os.pipe()
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child.run(self.actor, job, theirs, self.limits, self.seccomp)
        os.close(theirs)
        message, failure, reason = b"", "", ""
        try:
            message, failure, reason = self._collect(ours, started + self.limits.wall_s)
        finally:
            os.close(ours)
            status, usage = _end(pid)
        cpu_s = usage.ru_utime + usage.ru_stime
        if not failure and not message:
            failure, reason = self._cause(status, cpu_s)
        whole = None if failure else message
        return Answer(whole, failure, reason, time.monotonic() - started, cpu_s)

    def _collect(self, pipe: int, deadline: float) -> tuple[bytes, str, str]:
        """One whole message, or a failure and its reason; both empty when the child ended without a word."""
        most = self.limits.output_bytes
        received = bytearray()
        size: int | None = None
        while size is None or len(received) < size:
            left_s = deadline - time.monotonic()
            ready = select.select([pipe, CONTROL], [], [], left_s)[0] if left_s > 0 else []
            if not ready:
                return b"", "timeout", f"no result after {self.limits.wall_s:g} s"
            if CONTROL in ready:
                _interrupt()
            if pipe not in ready:
                continue
            chunk = os.read(pipe, CHUNK)
            if not chunk:
                return b"", "", ""
            received += chunk
            if size is None and len(received) >= wire.HEADER.size:
                (size,) = wire.HEADER.unpack(received[: wire.HEADER.size])
                del received[: wire.HEADER.size]
                if size > most:
                    return b"", "invalid_output", f"a result of {size:,} bytes; at most {most:,} are allowed"
        tag = bytes(received[:1])
        if tag == FAILURE and size <= FAILURE_BYTES or tag == DECISIONS and len(received) == size:
            return bytes(received), "", ""
        return b"", "invalid_output", "the result is malformed"

    def _cause(self, status: int, cpu_s: float) -> tuple[str, str]:
        """Why a child ended without a result, from its exit status and the CPU time that it used."""
        if not os.WIFSIGNALED(status):
            return "crash", f"ended with exit code {os.waitstatus_to_exitcode(status)} and without a result"
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU or cpu_s >= self.limits.cpu_s:
            return "timeout", f"used more than {self.limits.cpu_s} s of CPU time"
        if number == signal.SIGKILL:
            return "memory", "killed by the kernel, most likely because memory ran out"
        return "crash", f"ended by signal {signal.Signals(number).name} and without a result"


def _interrupt() -> None:
    """Raises what a message during a job means: the worker cancels it, or is gone."""
    if wire.read_frame(CONTROL, MAX_CONTROL) is None:
        raise WorkerGone
    raise Cancelled


def _end(pid: int) -> tuple[int, resource.struct_rusage]:
    """Kills the child with all that it started, and returns its exit status and resource usage."""
    os.kill(pid, signal.SIGKILL)  # no effect on one that has ended: it is not reaped yet
    _, status, usage = os.wait4(pid, 0)
    if os.getpid() == 1:  # inside the wall, whatever else runs belongs to the candidate
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return status, usage
    else:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return status, usage
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return status, usage


def settle() -> int:
    """Makes this process fit to fork hostile children; returns the descriptor for answers."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # processes that a candidate leaves behind come back here, and are killed
    prctl(PR_SET_DUMPABLE, 0)  # children of the same user cannot open /proc/1/fd or /proc/1/mem
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # a library that prints does not break the stream of answers
    return answers


def serve() -> None:
    """Loads the actor that the first message names, then answers jobs until the control pipe closes."""
    answers = settle()
    settings = wire.unpack(wire.read_frame(CONTROL, MAX_CONTROL) or b"")
    try:
        program = settings["seccomp"]
        zygote = Zygote(
            load(settings["actor"])(tuple(settings["stages"]), **settings["arguments"]),
            Limits(**settings["limits"]),
            Filter(program) if program else None,
        )
        _check_single_thread()
    except KvolveError as error:
        wire.write_frame(answers, wire.pack({"refused": str(error)}))
        return
    except Exception:
        wire.write_frame(answers, wire.pack({"broken": traceback.format_exc()}))
        return
    gc.collect()
    gc.freeze()  # a collection in a child does not touch, and so copy, what it shares with the zygote
    rounds = {stage: int(zygote.actor.rounds[stage]) for stage in settings["stages"]}
    wire.write_frame(answers, wire.pack({"rounds": rounds}))
    while (message := wire.read_frame(CONTROL, MAX_CONTROL)) is not None:
        job = wire.unpack(message)
        if "cancel" in job:  # it came too late: the job had been answered already
            continue
        try:
            reply = zygote.evaluate(job["source"], job["stage"])
        except Cancelled:
            reply = {"cancelled": True}
        except WorkerGone:
            return
        wire.write_frame(answers, wire.pack(reply | {"job": job["job"]}))


def _check_single_thread() -> None:
    """Raises RuntimeError when loading the actor has started threads: a forked child could then wait for ever."""
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise RuntimeError(f"loading the actor started {len(threads) - 1} threads; load it without parallel regions")


if __name__ == "__main__":
    serve()
