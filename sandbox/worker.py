"""A worker: it owns a task's zygote and judge, and lets candidates talk to the judge from inside the wall.

`python -m sandbox.worker` is the process that the local pool talks to over descriptors 0 and 1.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from select import select
from typing import IO, TYPE_CHECKING, Any, NoReturn

from kvolve import KvolveError
from sandbox import isolation, seccomp, wire
from sandbox.channel import Channel, Failed
from sandbox.partner import Partner
from sandbox.task import Examination, Judge, Limits, Outcome, Profile, TaskRef, load

if TYPE_CHECKING:
    import numpy as np

    from sandbox.channel import Answer

START_S = 120.0  # loading torch and the workloads of a large task on a busy machine
CONTROL_BYTES = 1 << 20
STDERR_CHARACTERS = 4_000
BOOT = "import sys; sys.path[:] = {path!r}; from sandbox.zygote import serve; serve()"


class ZygoteLost(Exception):  # noqa: N818
    """A zygote died, or did not answer in time; `failure` is the label if it happens again."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class Cancelled(Exception):  # noqa: N818
    """The pool gave up on the job that is running."""


@dataclass
class Times:
    """Of all processes of one stage."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


class ZygoteProcess:
    """A worker's end of one zygote: the process, and the socket on which it takes jobs."""

    def __init__(self, task: TaskRef, limits: Limits, unsafe: bool) -> None:
        self._limits = limits
        self._unsafe = unsafe
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        self._started = False
        self._jobs = 0
        program = _filter(unsafe, task.profile)
        python = [sys.executable, "-s", "-P", "-B", "-c", BOOT.format(path=isolation.search_path())]
        packages = [task.actor.partition(":")[0].partition(".")[0]]
        command = python
        if not unsafe:
            command = isolation.wall(python, task.readable, packages, limits.file_bytes, task.profile)
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=self._stderr,
                stderr=self._stderr,
                env=isolation.ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
            )
        told = {"actor": task.actor, "inside": task.inside, "limits": asdict(limits), "seccomp": program}
        self._tell(told)

    def play(self, source: str, answer: Answer, cancelled: int, times: Times) -> dict[str, np.ndarray]:
        """Plays one process of a candidate, which may ask for an `answer`; what it said at its end.

        Raises Failed for a candidate that failed, Cancelled when the descriptor `cancelled` becomes readable,
        ZygoteLost when the zygote dies or does not answer in time, KvolveError or RuntimeError when it could
        not start.
        """
        if not self._started:
            self._ready()
        channel = Channel(self._limits, answer)
        try:
            self._jobs += 1
            self._tell({"job": self._jobs}, channel.theirs)
            channel.begin(source)
            reply = self._watch(channel, cancelled)
        finally:
            channel.close()
        times.wall_s += reply.get("wall_s", 0.0)
        times.cpu_s += reply.get("cpu_s", 0.0)
        if channel.failure:
            raise channel.failure
        if channel.end is None:
            raise Failed(reply["failure"], reply["message"])
        return channel.end

    def close(self) -> None:
        """Kills the zygote and waits for its end. Its child goes with it."""
        self._process.kill()
        self._process.wait()
        self._control.close()
        self._stderr.close()

    def _watch(self, channel: Channel, cancelled: int) -> dict[str, Any]:
        """Serves the child until the zygote says how it ended, and all that it sent is read."""
        deadline = time.monotonic() + self._limits.wall_s + self._limits.grace_s
        channel.theirs.close()
        reply: dict[str, Any] | None = None
        told = False
        while reply is None or channel.open:
            watched: list[Any] = [channel.ours] if channel.open else []
            watched += [self._control] if reply is None else []
            watched += [] if told else [cancelled]
            ready = select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise ZygoteLost("timeout", "the sandbox did not answer within the limits")
            if channel.ours in ready:
                channel.read()
            if self._control in ready:
                reply = self._read()
                if reply is None or reply.get("job") != self._jobs:
                    raise ZygoteLost("crash", "the sandbox ended while this candidate ran")
            if not told and reply is None and (channel.failure or cancelled in ready):
                told = True
                self._tell({"cancel": True})
        if told and channel.failure is None:
            raise Cancelled
        return reply

    def _ready(self) -> None:
        if not select([self._control], [], [], START_S)[0]:
            raise RuntimeError(f"the sandbox did not start within {START_S:g} s")
        reply = self._read()
        if reply is None:
            self._process.wait()
            said = self._said()
            if not self._unsafe and said.startswith("bwrap:"):
                raise isolation.refused(said)
            raise RuntimeError(f"the sandbox ended with code {self._process.returncode} at its start\n{said}")
        if "refused" in reply:
            raise KvolveError(reply["refused"])
        if "broken" in reply:
            raise RuntimeError(f"the actor could not be loaded\n{reply['broken']}")
        self._started = True

    def _tell(self, message: dict[str, Any], channel: socket.socket | None = None) -> None:
        try:
            wire.write_frame(self._control.fileno(), wire.pack(message))
            if channel:
                socket.send_fds(self._control, [b"+"], [channel.fileno()])
        except ConnectionError:
            return  # it has ended: the next read says so, with its reason

    def _read(self) -> dict[str, Any] | None:
        try:
            message = wire.read_frame(self._control.fileno(), CONTROL_BYTES)
            reply = None if message is None else wire.unpack(message)
        except (wire.WireError, ConnectionError):
            return None
        return reply if isinstance(reply, dict) else None

    def _said(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-STDERR_CHARACTERS:]


def _filter(unsafe: bool, profile: Profile) -> bytes:
    try:
        return seccomp.compile_filter(profile)
    except KvolveError:
        if unsafe:
            return b""
        raise


class Worker:
    """Runs candidates of one task, one at a time."""

    def __init__(self, task: TaskRef, limits: Limits, unsafe: bool = False) -> None:
        self._task = task
        self._limits = limits
        self._unsafe = unsafe
        self._cancelled, self._cancel = os.pipe()
        os.set_blocking(self._cancelled, False)
        self._zygote: ZygoteProcess | None = self._started()
        # The zygotes start while the judge loads its workloads.
        self._partner = None if task.partner is None else Partner(self._open_partner)
        led: dict[str, Any] = {} if self._partner is None else {"partner": self._partner}
        self._judge: Judge = load(task.judge)(**task.arguments, **led)

    def run(self, source: str, stage: str, sample: int = 0) -> Outcome:
        """What `stage` comes to for `source`. A zygote that is lost is replaced, and the job done once more.

        Raises KvolveError when the sandbox cannot work here, RuntimeError for a bug in the actor's start.
        """
        self._task.check(stage)
        self._forget_cancellations()
        times = Times()
        lost = ZygoteLost("crash", "")
        for _ in range(2):
            try:
                value = self._examine(source, stage, sample, times)
                return Outcome(value, None, "", times.wall_s, times.cpu_s)
            except Failed as failed:
                return Outcome(None, failed.failure, str(failed), times.wall_s, times.cpu_s)
            except Cancelled:
                return Outcome(None, "sandbox", "cancelled", times.wall_s, times.cpu_s)
            except ZygoteLost as error:
                lost = error
                self._replace_zygote()
            except (KvolveError, RuntimeError):
                self._replace_zygote()
                raise
        return Outcome(None, lost.failure, str(lost), times.wall_s, times.cpu_s)

    def cancel(self) -> None:
        """Ends the job that `run` is doing, from another thread; it then returns the failure "sandbox"."""
        os.write(self._cancel, b"!")

    def close(self) -> None:
        """Ends the zygote, and the partner's."""
        self._replace_zygote()
        if self._partner:
            self._partner.close()

    def _examine(self, source: str, stage: str, sample: int, times: Times) -> dict[str, Any]:
        """Leads a candidate through one stage. Raises Failed, Cancelled or ZygoteLost where it ends early."""
        try:
            examination: Examination = _judged(self._judge.examine, stage, source, sample)
            while _judged(examination.another_process):
                zygote = self._zygote = self._zygote or self._started()
                end = zygote.play(source, partial(_judged, examination.answer), self._cancelled, times)
                _judged(examination.take, end)
            value: dict[str, Any] = _judged(examination.value)
            _judged(wire.pack, value)
            return value
        finally:
            if self._partner:
                self._partner.stop()

    def _started(self) -> ZygoteProcess:
        return ZygoteProcess(self._task, self._limits, self._unsafe)

    def _open_partner(self) -> ZygoteProcess:
        assert self._task.partner is not None
        return ZygoteProcess(self._task.partner, self._limits, self._unsafe)

    def _replace_zygote(self) -> None:
        """Ends the zygote; the next job starts another."""
        if self._zygote:
            self._zygote.close()
        self._zygote = None

    def _forget_cancellations(self) -> None:
        with contextlib.suppress(BlockingIOError):  # there was none
            os.read(self._cancelled, 1 << 16)


def _judged(method: Callable[..., Any], *arguments: object) -> Any:
    """What a judge's method returns. Raises Failed for what it says of a candidate.

    A judge that breaks costs the candidate its score, with the traceback to be read in the archive, but no
    run its end: what one candidate can trigger would end the resumed run, too.
    """
    try:
        return method(*arguments)
    except KvolveError:  # such as a recording that is damaged: for the user to mend
        raise
    except Exception as error:
        label = getattr(error, "failure_kind", None)
        if label is None:
            raise Failed("sandbox", f"the judge failed\n{traceback.format_exc()}") from error
        raise Failed(label, str(error)) from error


def main() -> NoReturn:
    """Serves jobs until descriptor 0 closes; then nothing of it is left."""
    answers = os.dup(1)
    os.dup2(2, 1)  # a judge that prints does not break the stream of answers
    settings = wire.unpack(wire.read_frame(0, 1 << 30) or b"")
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    worker: Worker | None = None
    broken: dict[str, str] = {}
    try:
        worker = Worker(TaskRef.unpack(settings["task"]), Limits(**settings["limits"]), settings["unsafe"])
    except Exception as error:  # told with the first job
        broken = raised(error)
    threading.Thread(target=_listen, args=(worker, jobs), daemon=True).start()
    while True:
        job = jobs.get()
        wire.write_frame(answers, reply(worker, **job) if worker else wire.pack(broken))


def reply(worker: Worker, source: str, stage: str, sample: int) -> bytes:
    """What a pool is sent for one job: an outcome, or an error that is not the candidate's."""
    try:
        return wire.pack({"outcome": asdict(worker.run(source, stage, sample))})
    except Exception as error:
        return wire.pack(raised(error))


def raised(error: Exception) -> dict[str, str]:
    """The plain form of an error that is not a candidate's: `returned` raises it again in the driver."""
    if isinstance(error, KvolveError):
        return {"refused": str(error)}
    return {"broken": "".join(traceback.format_exception(error))}


def returned(reply: dict[str, Any]) -> Outcome:
    """The outcome in a worker's reply. Raises the KvolveError or RuntimeError that it holds instead."""
    if "refused" in reply:
        raise KvolveError(reply["refused"])
    if "broken" in reply:
        raise RuntimeError(f"a sandbox worker failed\n{reply['broken']}")
    return Outcome(**reply["outcome"])


def _listen(worker: Worker | None, jobs: queue.SimpleQueue[dict[str, Any]]) -> NoReturn:
    """Reads what the pool says: jobs, cancellations, and its end, also while a job runs."""
    while (message := wire.read_frame(0, 1 << 30)) is not None:
        said = wire.unpack(message)
        if "cancel" not in said:
            jobs.put(said)
        elif worker:
            worker.cancel()
    if worker:
        worker.close()
    os._exit(0)  # the main thread may be waiting for a zygote that is no more


if __name__ == "__main__":
    main()
