"""The process inside the wall: it loads an actor once and forks a child for every round of every candidate.

It reads jobs from descriptor 0 and writes answers to a private copy of descriptor 1. It never decodes what a
child sends: it only counts bytes, and hands them on. Its parts of a job are the wall clock, the size of the
answer, and that nothing of a candidate is left when the next one starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvolve import KvolveError
from sandbox import child, wire
from sandbox.child import DECISIONS, FAILURE, Job
from sandbox.seccomp import Filter
from sandbox.task import Actor, Limits, load

if TYPE_CHECKING:
    import numpy as np

CONTROL = 0
CHUNK = 1 << 20
MAX_CONTROL = 64 << 20  # settings, or a job with its source
FAILURE_BYTES = 64 << 10
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 4, 36, 1


class Cancelled(Exception):  # noqa: N818
    """The worker gave up on the job that is running."""


class WorkerGone(Exception):  # noqa: N818
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
        reply: dict[str, Any] = {
            "rounds": rounds,
            "failure": None,
            "message": "",
            "wall_s": 0.0,
            "cpu_s": 0.0,
        }
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
            message, failure, reason = self._collect(ours, pid, started + self.limits.wall_s)
        finally:
            os.close(ours)
            status, usage = _end(pid)
        cpu_s = usage.ru_utime + usage.ru_stime
        if not failure and not message:
            failure, reason = self._cause(status, cpu_s)
        whole = None if failure else message
        return Answer(whole, failure, reason, time.monotonic() - started, cpu_s)

    def _collect(self, pipe: int, pid: int, deadline: float) -> tuple[bytes, str, str]:
        """One whole message, or a failure and its reason; all empty when the child ended without a word."""
        most = self.limits.output_bytes
        received = bytearray()
        size: int | None = None
        while size is None or len(received) < size:
            if not self._wait(pipe, deadline):
                return b"", "timeout", f"no result after {self.limits.wall_s:g} s"
            chunk = os.read(pipe, CHUNK)
            if not chunk:
                return self._silent(pid, deadline)
            received += chunk
            if size is None and len(received) >= wire.HEADER.size:
                (size,) = wire.HEADER.unpack(received[: wire.HEADER.size])
                del received[: wire.HEADER.size]
                if size > most:
                    return b"", "invalid_output", f"a result of {size:,} bytes; at most {most:,} are allowed"
        told = received[:1] == FAILURE and size <= FAILURE_BYTES
        if len(received) != size or not (told or received[:1] == DECISIONS):
            return b"", "invalid_output", "the result is malformed"
        return bytes(received), "", ""

    def _silent(self, pid: int, deadline: float) -> tuple[bytes, str, str]:
        """A child closed its pipe: it has ended, or it goes on with nothing to say."""
        process = os.pidfd_open(pid)
        try:
            ended = self._wait(process, deadline)
        finally:
            os.close(process)
        return (b"", "", "") if ended else (b"", "timeout", f"no result after {self.limits.wall_s:g} s")

    def _wait(self, descriptor: int, deadline: float) -> bool:
        """Whether `descriptor` becomes readable in time. Raises Cancelled or WorkerGone."""
        ready = select.select([descriptor, CONTROL], [], [], max(0.0, deadline - time.monotonic()))[0]
        if CONTROL in ready:
            _interrupt()
        return descriptor in ready

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
    """Kills the child with all that it started; returns its exit status and resource usage."""
    os.kill(pid, signal.SIGKILL)  # no effect on one that has ended: it is not reaped yet
    _, status, usage = os.wait4(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        if os.getpid() == 1:  # inside the wall, whatever else runs belongs to the candidate
            os.kill(-1, signal.SIGKILL)
        else:
            os.killpg(pid, signal.SIGKILL)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return status, usage


def settle() -> int:
    """Makes this process fit to fork hostile children; returns the descriptor for answers."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(
        PR_SET_CHILD_SUBREAPER, 1
    )  # processes that a candidate leaves behind come back here, and are killed
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
        _check_child(zygote)
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
    """Raises RuntimeError when loading the actor left threads: forked children could wait for ever."""
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise RuntimeError(
            f"loading the actor started {len(threads) - 1} threads; load it without parallel regions"
        )


class _Idle:
    """An actor that decides nothing, for a child that only tries its limits."""

    rounds: Mapping[str, int] = {"": 1}

    def act(
        self, source: str, stage: str, carried: Mapping[str, np.ndarray] | None
    ) -> Mapping[str, np.ndarray]:
        return {}


def _check_child(zygote: Zygote) -> None:
    """Raises RuntimeError when a child cannot be limited: no candidate may be blamed for that."""
    reply = Zygote(_Idle(), zygote.limits, zygote.seccomp).evaluate("", "")
    if reply["failure"]:
        raise RuntimeError(f"a child could not be put under its limits: {reply['message'] or reply['told']}")


if __name__ == "__main__":
    serve()
