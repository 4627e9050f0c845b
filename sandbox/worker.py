"""A worker: it owns a task's zygotes, sends them candidates, and judges outside the wall what comes back.

`python -m sandbox.worker` is the process that the local pool talks to over descriptors 0 and 1.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict
from select import select
from typing import IO, Any, NoReturn

from kvolve import KvolveError
from sandbox import isolation, seccomp, wire
from sandbox.task import FAILURES, Judge, Limits, Outcome, TaskRef, load

START_S = 120.0  # loading torch and the workloads of a large task on a busy machine
ENVELOPE_BYTES = 1 << 20  # what a zygote's reply may add to the decisions
STDERR_CHARACTERS = 4_000
BOOT = "import sys; sys.path[:] = {path!r}; from sandbox.zygote import serve; serve()"


class ZygoteLost(Exception):  # noqa: N818
    """A zygote died, or did not answer in time; `failure` is the label if it happens again."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(message)
        self.failure = failure


class ZygoteProcess:
    """A worker's end of one zygote: the process and its two pipes."""

    def __init__(self, task: TaskRef, group: tuple[str, ...], limits: Limits, unsafe: bool) -> None:
        self._limits = limits
        self._unsafe = unsafe
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in close()
        self._rounds: dict[str, int] = {}
        self._jobs = 0
        program = _filter(unsafe)
        python = [sys.executable, "-s", "-P", "-B", "-c", BOOT.format(path=isolation.search_path())]
        packages = [task.actor.partition(":")[0].partition(".")[0]]
        command = python if unsafe else isolation.wall(python, task.paths(group), packages, limits.file_bytes)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=isolation.ENVIRONMENT,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the driver, which then ends its workers
        )
        assert self._process.stdin
        assert self._process.stdout
        self._control = self._process.stdin.fileno()
        self._answers = self._process.stdout.fileno()
        settings = {
            "actor": task.actor,
            "arguments": task.arguments,
            "stages": group,
            "limits": asdict(limits),
            "seccomp": program,
        }
        self._tell(wire.pack(settings))

    def ask(self, source: str, stage: str, cancelled: int) -> dict[str, Any]:
        """The zygote's reply to one job, cancelled when the descriptor `cancelled` becomes readable.

        Raises ZygoteLost when it dies or does not answer in time, KvolveError or RuntimeError when it could
        not start.
        """
        if not self._rounds:
            self._rounds = self._ready()
        self._jobs += 1
        self._tell(wire.pack({"job": self._jobs, "source": source, "stage": stage}))
        deadline = time.monotonic() + self._limits.wall_s * self._rounds[stage] + self._limits.grace_s
        watched = [self._answers, cancelled]
        while True:
            ready = select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise ZygoteLost("timeout", "the sandbox did not answer within the limits")
            if self._answers in ready:
                break
            watched = [self._answers]
            self._tell(wire.pack({"cancel": True}))
        reply = self._read(self._limits.output_bytes * self._rounds[stage] + ENVELOPE_BYTES)
        if reply is None or reply.get("job") != self._jobs:
            raise ZygoteLost("crash", "the sandbox ended while this candidate ran")
        return reply

    def close(self) -> None:
        """Kills the zygote and waits for its end. Its child goes with it."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream:
                stream.close()

    def _ready(self) -> dict[str, int]:
        if not select([self._answers], [], [], START_S)[0]:
            raise RuntimeError(f"the sandbox did not start within {START_S:g} s")
        reply = self._read(ENVELOPE_BYTES)
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
        rounds: dict[str, int] = reply["rounds"]
        return rounds

    def _tell(self, message: bytes) -> None:
        try:
            wire.write_frame(self._control, message)
        except BrokenPipeError:
            return  # it has ended: the next read says so, with its reason

    def _read(self, limit: int) -> dict[str, Any] | None:
        try:
            message = wire.read_frame(self._answers, limit)
            reply = None if message is None else wire.unpack(message)
        except wire.WireError:
            return None
        return reply if isinstance(reply, dict) else None

    def _said(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-STDERR_CHARACTERS:]


def _filter(unsafe: bool) -> bytes:
    try:
        return seccomp.compile_filter()
    except KvolveError:
        if unsafe:
            return b""
        raise


class Worker:
    """Runs candidates of one task, one at a time, with a zygote for every group of stages."""

    def __init__(self, task: TaskRef, limits: Limits, unsafe: bool = False) -> None:
        self._task = task
        self._limits = limits
        self._unsafe = unsafe
        self._zygotes: dict[tuple[str, ...], ZygoteProcess] = {}
        self._cancelled, self._cancel = os.pipe()
        os.set_blocking(self._cancelled, False)
        self._zygote(task.groups[0])
        # The zygote loads its workloads while the judge loads its own.
        self._judge: Judge = load(task.judge)(task.stages, **task.arguments)

    def run(self, source: str, stage: str) -> Outcome:
        """What `stage` comes to for `source`. A zygote that is lost is replaced, and the job done once more.

        Raises KvolveError when the sandbox cannot work here, RuntimeError for a bug in actor or judge.
        """
        self._forget_cancellations()
        group = self._task.group(stage)
        lost = ZygoteLost("crash", "")
        for _ in range(2):
            try:
                reply = self._zygote(group).ask(source, stage, self._cancelled)
            except ZygoteLost as error:
                lost = error
                self._zygotes.pop(group).close()
                continue
            except (KvolveError, RuntimeError):
                self._zygotes.pop(group).close()
                raise
            return self._outcome(stage, reply)
        return Outcome(None, lost.failure, str(lost), 0.0, 0.0)

    def cancel(self) -> None:
        """Ends the job that `run` is doing, from another thread; it then returns the failure "sandbox"."""
        os.write(self._cancel, b"!")

    def close(self) -> None:
        """Ends all zygotes."""
        for zygote in self._zygotes.values():
            zygote.close()
        self._zygotes.clear()

    def _zygote(self, group: tuple[str, ...]) -> ZygoteProcess:
        if group not in self._zygotes:
            self._zygotes[group] = ZygoteProcess(self._task, group, self._limits, self._unsafe)
        return self._zygotes[group]

    def _forget_cancellations(self) -> None:
        try:
            os.read(self._cancelled, 1 << 16)
        except BlockingIOError:
            return  # there was none

    def _outcome(self, stage: str, reply: dict[str, Any]) -> Outcome:
        if "cancelled" in reply:
            return Outcome(None, "sandbox", "cancelled", 0.0, 0.0)
        wall_s, cpu_s = reply["wall_s"], reply["cpu_s"]
        if reply["failure"] == "told":
            failure, message = _told(reply["told"])
            return Outcome(None, failure, message, wall_s, cpu_s)
        if reply["failure"]:
            return Outcome(None, reply["failure"], reply["message"], wall_s, cpu_s)
        try:
            rounds = [wire.decode_arrays(message) for message in reply["rounds"]]
        except wire.WireError as error:
            return Outcome(None, "invalid_output", str(error), wall_s, cpu_s)
        try:
            value = self._judge.judge(stage, rounds)
            wire.pack(value)
        except Exception as error:
            label = getattr(error, "failure_kind", None)
            if label is None:
                raise RuntimeError(f"the judge failed\n{traceback.format_exc()}") from error
            return Outcome(None, label, str(error), wall_s, cpu_s)
        return Outcome(value, None, "", wall_s, cpu_s)


def _told(message: bytes) -> tuple[str, str]:
    """Failure and message as a child tells them; a candidate may have written these bytes."""
    try:
        failure, text = wire.unpack(message)
    except (wire.WireError, ValueError, TypeError):
        return "invalid_output", "the result is malformed"
    if not isinstance(text, str) or not isinstance(failure, str) or failure not in FAILURES:
        return "crash", "ended with a failure that is none"
    return failure, text


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
        wire.write_frame(answers, reply(worker, job["source"], job["stage"]) if worker else wire.pack(broken))


def reply(worker: Worker, source: str, stage: str) -> bytes:
    """What a pool is sent for one job: an outcome, or an error that is not the candidate's."""
    try:
        return wire.pack({"outcome": asdict(worker.run(source, stage))})
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
