"""The process inside the wall: it loads an actor once and forks a child for every process of a candidate.

It holds no workload and no source, and reads nothing that a child writes: a child talks to the worker
outside, over a socket of its own that comes with the job. The zygote's parts are the wall clock, the cause of
a silent end, and that nothing of a candidate is left when the next one starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvolve import KvolveError
from sandbox import child, wire
from sandbox.seccomp import Filter
from sandbox.task import Actor, Limits, load

if TYPE_CHECKING:
    import numpy as np

    from sandbox.task import Ask

CONTROL = 0
MAX_CONTROL = 1 << 20
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 4, 36, 1


class Cancelled(Exception):  # noqa: N818
    """The worker gave up on the job that is running."""


class WorkerGone(Exception):  # noqa: N818
    """The other end of the control socket was closed."""


@dataclass(frozen=True)
class Zygote:
    """An actor with its limits, ready to be forked."""

    actor: Actor
    limits: Limits
    seccomp: Filter | None

    def play(self, channel: int) -> dict[str, Any]:
        """Runs one child, and what it may have started, to its end: how it ended, and its times."""
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child.run(self.actor, channel, self.limits, self.seccomp)
        os.close(channel)
        in_time = False
        try:
            in_time = self._ended(pid, started + self.limits.wall_s)
        finally:
            status, usage = _end(pid)
        cpu_s = usage.ru_utime + usage.ru_stime
        if in_time:
            failure, message = self._cause(status, cpu_s)
        else:
            failure, message = "timeout", f"no result after {self.limits.wall_s:g} s"
        wall_s = time.monotonic() - started
        return {"failure": failure, "message": message, "wall_s": wall_s, "cpu_s": cpu_s}

    def _ended(self, pid: int, deadline: float) -> bool:
        """Whether a child ends in time. Raises Cancelled or WorkerGone."""
        process = os.pidfd_open(pid)
        try:
            wait_s = max(0.0, deadline - time.monotonic())
            ready = select.select([process, CONTROL], [], [], wait_s)[0]
        finally:
            os.close(process)
        if process not in ready and CONTROL in ready:
            raise WorkerGone if wire.read_frame(CONTROL, MAX_CONTROL) is None else Cancelled
        return process in ready

    def _cause(self, status: int, cpu_s: float) -> tuple[str, str]:
        """Why a child ended, should it have given no result: from its exit status and its CPU time."""
        if not os.WIFSIGNALED(status):
            return "crash", f"ended with exit code {os.waitstatus_to_exitcode(status)} and without a result"
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU or cpu_s >= self.limits.cpu_s:
            return "timeout", f"used more than {self.limits.cpu_s} s of CPU time"
        if number == signal.SIGKILL:
            return "memory", "killed by the kernel, most likely because memory ran out"
        return "crash", f"ended by signal {signal.Signals(number).name} and without a result"


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


def settle() -> None:
    """Makes this process fit to fork hostile children."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Processes that a candidate leaves behind come back here, and are killed.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_DUMPABLE, 0)  # children of the same user cannot open /proc/1/fd or /proc/1/mem
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def serve() -> None:
    """Loads the actor that the first message names, then plays jobs until the control socket closes."""
    settle()
    settings = wire.unpack(wire.read_frame(CONTROL, MAX_CONTROL) or b"")
    try:
        program = settings["seccomp"]
        seccomp = Filter(program) if program else None
        zygote = Zygote(load(settings["actor"])(**settings["inside"]), Limits(**settings["limits"]), seccomp)
        _check_single_thread()
        _check_child(zygote)
    except KvolveError as error:
        _tell({"refused": str(error)})
        return
    except Exception:
        _tell({"broken": traceback.format_exc()})
        return
    gc.collect()
    gc.freeze()  # a collection in a child does not touch, and so copy, what it shares with the zygote
    _tell({"ready": True})
    control = socket.socket(fileno=CONTROL)
    while (message := wire.read_frame(CONTROL, MAX_CONTROL)) is not None:
        job = wire.unpack(message)
        if "cancel" in job:  # it came too late: the job had ended already
            continue
        channel = socket.recv_fds(control, 1, 1)[1][0]
        try:
            reply = zygote.play(channel)
        except Cancelled:
            reply = {"cancelled": True}
        except WorkerGone:
            return
        _tell(reply | {"job": job["job"]})


def _tell(reply: dict[str, Any]) -> None:
    wire.write_frame(CONTROL, wire.pack(reply))


def _check_single_thread() -> None:
    """Raises RuntimeError when loading the actor left threads: forked children could wait for ever."""
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise RuntimeError(
            f"loading the actor started {len(threads) - 1} threads; load it without parallel regions"
        )


class _Idle:
    """An actor that decides nothing, for a child that only tries its limits."""

    def act(self, source: str, ask: Ask) -> Mapping[str, np.ndarray]:
        return {}


def _check_child(zygote: Zygote) -> None:
    """Raises RuntimeError when a child cannot be limited: no candidate may be blamed for that."""
    ours, theirs = socket.socketpair()
    with ours:
        wire.write_frame(ours.fileno(), b"")  # a candidate without source
        reply = Zygote(_Idle(), zygote.limits, zygote.seccomp).play(theirs.detach())
        said = ours.recv(1 << 16)
    if said[wire.HEADER.size :][:1] != child.END:
        raise RuntimeError(f"a child could not be put under its limits: {reply['message']} {said!r}")
