"""Pools, where candidates wait for a worker: the interface, the local pool, and what it shares with Ray's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import statistics
import sys
import time
from collections import defaultdict, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from kvolve import KvolveError
from sandbox import wire
from sandbox.isolation import ONE_THREAD, search_path
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import returned

LOG = logging.getLogger("kvolve")
MAX_REPLY = 1 << 30
CLOSE_S = 5.0
TRIES = 2
HIRE_S = 1.0  # between two attempts to start a process where the machine refuses one
WATCH_S = 0.25
LATE_TIMES, LATE_S = 4.0, 1.0  # a straggler takes so many times the stage's median, and at least so long
RECENT = 100  # evaluations of a stage that its median is taken of
UNMANNED_S = 30.0  # without any worker, after which a waiting user is told
BOOT = "import sys; sys.path[:] = {path!r}; from sandbox.worker import main; main()"


class Pool(Protocol):
    """Runs candidates on workers; the loop knows no more of where they are."""

    async def start(self) -> None:
        """Starts the workers, without waiting until they are ready."""

    def submit(self, source: str, stage: str, sample: int = 0) -> asyncio.Future[Outcome]:
        """The outcome to come; `sample` as in `Judge.examine`. Cancelling the future ends the candidate's
        process.

        The future raises KvolveError when the sandbox cannot work here, RuntimeError for a bug in actor or
        judge.
        """

    async def close(self) -> None:
        """Cancels what is pending and ends all workers; nothing of them is left."""


class WorkerLost(Exception):  # noqa: N818
    """A worker is no more, or does not answer; `blameless` when this cannot be its candidate's doing."""

    def __init__(self, blameless: bool = False) -> None:
        super().__init__()
        self.blameless = blameless


class RemoteWorker(Protocol):
    """A pool's end of one worker process."""

    async def ready(self) -> None:
        """Returns when the worker can take jobs. Raises WorkerLost when it dies before."""

    async def run(self, source: str, stage: str, sample: int) -> Outcome:
        """Raises WorkerLost when the worker dies."""

    async def cancel(self) -> None:
        """Makes the job that runs end early."""

    async def close(self) -> None:
        """Ends the worker."""


@dataclass(eq=False)
class _Job:
    number: int  # a job that is put back in the queue is again before all that were submitted later
    source: str
    stage: str
    sample: int
    future: asyncio.Future[Outcome] = field(repr=False)
    lost: int = 0  # workers that died while they ran it
    runs: list[float] = field(default_factory=list)  # when each worker that runs it now began
    repeated: bool = False

    def __lt__(self, other: _Job) -> bool:
        return self.number < other.number


class QueuePool:
    """First come, first served: one queue, and for each worker one coroutine that takes from it.

    A worker that is lost gives its job back and is replaced when that is possible, while the others go on; a
    job that loses two workers is a `crash`. An idle worker repeats a job that takes another one much longer
    than usual; the first result counts.
    """

    def __init__(
        self, task: TaskRef, workers: int, limits: Limits | None = None, unsafe: bool = False
    ) -> None:
        if workers < 1:
            raise KvolveError(f"{workers} workers were asked for; a pool needs at least 1.")
        self.task = task
        self.workers = workers
        self.limits = limits or Limits()
        self.unsafe = unsafe
        self._numbers = itertools.count()
        self._queue: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._pending: set[_Job] = set()  # waiting or under way
        self._took_s: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RECENT))  # by stage
        self._serving: list[asyncio.Task[None]] = []
        self._present = 0
        self._idle = 0
        self._broken: BaseException | None = None

    async def hire(self) -> RemoteWorker:
        """Starts one worker, without waiting until it is ready. Raises OSError where none can be started."""
        raise NotImplementedError

    async def start(self) -> None:
        workers = await asyncio.gather(*(self.hire() for _ in range(self.workers)))
        for coroutine in (self._watch(), *map(self._serve, workers)):
            task = asyncio.create_task(coroutine)
            task.add_done_callback(self._ended)
            self._serving.append(task)

    def submit(self, source: str, stage: str, sample: int = 0) -> asyncio.Future[Outcome]:
        self.task.check(stage)  # an unknown stage is the caller's mistake, and shows here
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._broken:
            future.set_exception(self._broken)
            return future
        job = _Job(next(self._numbers), source, stage, sample, future)
        self._pending.add(job)
        future.add_done_callback(lambda _: self._pending.discard(job))
        self._queue.put_nowait(job)
        return future

    async def close(self) -> None:
        for job in list(self._pending):
            job.future.cancel()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._serving.clear()

    async def _serve(self, worker: RemoteWorker) -> None:
        """Keeps one worker's place filled: when the worker is lost, it is ended, and the next one hired."""
        while True:
            try:
                with contextlib.suppress(WorkerLost):
                    await self._employ(worker)
            finally:
                await worker.close()
            worker = await self._replacement()

    async def _employ(self, worker: RemoteWorker) -> None:
        """Gives one worker jobs. Raises WorkerLost when it is lost."""
        await worker.ready()
        self._present += 1
        try:
            while True:
                await self._attend(worker, await self._next())
        finally:
            self._present -= 1

    async def _replacement(self) -> RemoteWorker:
        while True:
            try:
                return await self.hire()
            except OSError:
                await asyncio.sleep(HIRE_S)

    async def _next(self) -> _Job:
        self._idle += 1
        try:
            while (job := await self._queue.get()).future.done():
                continue  # cancelled while it waited
            return job
        finally:
            self._idle -= 1

    async def _attend(self, worker: RemoteWorker, job: _Job) -> None:
        """One run of a job. Raises WorkerLost, after the job has been given back."""
        began = time.monotonic()
        job.runs.append(began)
        try:
            outcome = await self._run(worker, job)
        except WorkerLost as lost:
            job.runs.remove(began)
            self._give_back(job, lost)
            raise
        except Exception as error:
            if not job.future.done():
                job.future.set_exception(error)
        else:
            if not job.future.done():
                self._took_s[job.stage].append(time.monotonic() - began)
                job.future.set_result(outcome)

    def _give_back(self, job: _Job, lost: WorkerLost) -> None:
        """Makes sure that a job whose worker is lost comes to an end."""
        if job.future.done():
            return
        job.lost += not lost.blameless
        if job.lost == TRIES:
            job.future.set_result(Outcome(None, "crash", f"{TRIES} workers died while they ran it", 0.0, 0.0))
        elif not job.runs:
            self._queue.put_nowait(job)

    async def _run(self, worker: RemoteWorker, job: _Job) -> Outcome:
        """One attempt; a worker whose job is cancelled or done elsewhere is told, and soon free again."""
        running = asyncio.ensure_future(worker.run(job.source, job.stage, job.sample))
        try:
            await asyncio.wait({running, job.future}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                async with asyncio.timeout(self.limits.grace_s):
                    await worker.cancel()
                    await asyncio.wait({running})
            return await running
        except TimeoutError:
            raise WorkerLost from None
        finally:
            running.cancel()

    async def _watch(self) -> None:
        """Looks for what only time can tell: stragglers, and that nobody is left to do the work."""
        unmanned_since: float | None = None
        told = False
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            if self._idle and self._queue.empty():
                late = sorted(job for job in self._pending if self._is_late(job, now))
                for job in late[: self._idle]:
                    job.repeated = True
                    self._queue.put_nowait(job)
            if self._present or not self._pending:
                unmanned_since = None
            elif unmanned_since is None:
                unmanned_since = now
            elif now - unmanned_since > UNMANNED_S and not told:
                told = True
                LOG.warning(
                    "No sandbox worker is left, and none could be started for %.0f s; waiting for room.",
                    now - unmanned_since,
                )

    def _is_late(self, job: _Job, now: float) -> bool:
        took = self._took_s[job.stage]
        if job.repeated or not job.runs or not took:
            return False
        return now - min(job.runs) > max(LATE_S, LATE_TIMES * statistics.median(took))

    def _ended(self, serving: asyncio.Task[None]) -> None:
        """A coroutine that ends before `close` has met a bug, or a sandbox that cannot work here."""
        if serving.cancelled() or not (error := serving.exception()):
            return
        self._broken = error
        for job in list(self._pending):
            if not job.future.done():
                job.future.set_exception(error)


class LocalPool(QueuePool):
    """Workers are processes of this machine, which end when the driver ends, however it ends."""

    async def hire(self) -> RemoteWorker:
        return await LocalWorker.start(self.task, self.limits, self.unsafe)


class LocalWorker:
    """One `python -m sandbox.worker` process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        assert process.stdin
        assert process.stdout
        self._jobs = process.stdin
        self._answers = process.stdout

    @classmethod
    async def start(cls, task: TaskRef, limits: Limits, unsafe: bool) -> LocalWorker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", BOOT.format(path=search_path())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | ONE_THREAD,
            start_new_session=True,  # Ctrl-C is for the driver, which then closes its pool
        )
        worker = cls(process)
        worker._tell({"task": task.pack(), "limits": asdict(limits), "unsafe": unsafe})
        return worker

    async def ready(self) -> None:
        """A process takes jobs from its start on, and keeps them until it can do them."""

    async def run(self, source: str, stage: str, sample: int) -> Outcome:
        self._tell({"source": source, "stage": stage, "sample": sample})
        if self._jobs.is_closing():  # nobody was left to take it
            raise WorkerLost(blameless=True)
        try:
            header = await self._answers.readexactly(wire.HEADER.size)
            (size,) = wire.HEADER.unpack(header)
            if size > MAX_REPLY:
                raise WorkerLost
            return returned(wire.unpack(await self._answers.readexactly(size)))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise WorkerLost from error

    async def cancel(self) -> None:
        self._tell({"cancel": True})

    async def close(self) -> None:
        """Closes the pipe, upon which the worker ends its zygotes and itself; kills it if it does not."""
        self._jobs.close()
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), CLOSE_S)
        finally:  # also when a pool that closes does not wait for the end of a worker that hangs
            if self._process.returncode is None:
                self._process.kill()
        await self._process.wait()

    def _tell(self, message: dict[str, Any]) -> None:
        self._jobs.write(wire.frame(wire.pack(message)))
