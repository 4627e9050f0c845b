"""Pools, where candidates wait for a worker: the interface, the local pool, and what it shares with Ray's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from kvolve import KvolveError
from sandbox import wire
from sandbox.isolation import ONE_THREAD, search_path
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import returned

MAX_REPLY = 1 << 30
CLOSE_S = 5.0
TRIES = 2
BOOT = "import sys; sys.path[:] = {path!r}; from sandbox.worker import main; main()"


class Pool(Protocol):
    """Runs candidates on workers; the loop knows no more of where they are."""

    async def start(self) -> None:
        """Starts the workers, without waiting until they are ready."""

    def submit(self, source: str, stage: str) -> asyncio.Future[Outcome]:
        """The outcome to come. Cancelling the future ends the candidate's process.

        The future raises KvolveError when the sandbox cannot work here, RuntimeError for a bug in actor or
        judge.
        """

    async def close(self) -> None:
        """Cancels what is pending and ends all workers; nothing of them is left."""


class WorkerLost(Exception):  # noqa: N818
    """The process of a worker ended while it had a job, or before."""


class RemoteWorker(Protocol):
    """A pool's end of one worker process."""

    async def run(self, source: str, stage: str) -> Outcome:
        """Raises WorkerLost when the worker dies."""

    async def cancel(self) -> None:
        """Makes the job that runs end early."""

    async def close(self) -> None:
        """Ends the worker."""


@dataclass
class _Job:
    source: str
    stage: str
    future: asyncio.Future[Outcome] = field(repr=False)


class QueuePool:
    """First come, first served: one queue, and for each worker one coroutine that takes from it.

    A worker that dies is replaced and its job repeated; a job that loses two workers is a `crash`.
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
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._pending: set[asyncio.Future[Outcome]] = set()
        self._serving: list[asyncio.Task[None]] = []

    async def hire(self) -> RemoteWorker:
        """Starts one worker."""
        raise NotImplementedError

    async def start(self) -> None:
        for worker in await asyncio.gather(*(self.hire() for _ in range(self.workers))):
            self._serving.append(asyncio.create_task(self._serve(worker)))

    def submit(self, source: str, stage: str) -> asyncio.Future[Outcome]:
        self.task.group(stage)  # an unknown stage is the caller's mistake, and shows here
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._jobs.put_nowait(_Job(source, stage, future))
        return future

    async def close(self) -> None:
        for future in list(self._pending):
            future.cancel()
        for serving in self._serving:
            serving.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        self._serving.clear()

    async def _serve(self, first: RemoteWorker) -> None:
        worker: RemoteWorker | None = first
        try:
            while True:
                job = await self._jobs.get()
                lost = 0
                while not job.future.done():
                    try:
                        worker = worker or await self.hire()
                        outcome = await self._run(worker, job)
                    except WorkerLost:
                        if worker:
                            await worker.close()
                        worker, lost = None, lost + 1
                        if lost < TRIES:
                            continue
                        outcome = Outcome(None, "crash", f"{TRIES} workers died while they ran it", 0.0, 0.0)
                    except Exception as error:
                        if not job.future.done():
                            job.future.set_exception(error)
                        continue
                    if not job.future.done():
                        job.future.set_result(outcome)
        finally:
            if worker:
                await worker.close()

    async def _run(self, worker: RemoteWorker, job: _Job) -> Outcome:
        """One attempt; a worker whose job is cancelled is told, and soon free for the next."""
        running = asyncio.ensure_future(worker.run(job.source, job.stage))
        try:
            await asyncio.wait({running, job.future}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await worker.cancel()
                done, _ = await asyncio.wait({running}, timeout=self.limits.grace_s)
                if not done:
                    raise WorkerLost
            return await running
        finally:
            running.cancel()


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

    async def run(self, source: str, stage: str) -> Outcome:
        self._tell({"source": source, "stage": stage})
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
            await asyncio.wait_for(self._process.wait(), CLOSE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    def _tell(self, message: dict[str, Any]) -> None:
        self._jobs.write(wire.frame(wire.pack(message)))
