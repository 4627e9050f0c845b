"""Workers as Ray actors: the same pool, on this machine or on a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import asdict
from typing import Any

from kvolve import KvolveError
from sandbox import wire
from sandbox.isolation import ONE_THREAD, search_path
from sandbox.pool import QueuePool, RemoteWorker, WorkerLost
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import Worker, raised, reply, returned

REACH_S = 5.0


class RayWorker:
    """What runs in the actor's process. Replies leave it packed as on the local pool's pipe."""

    def __init__(self, path: list[str], task: dict[str, Any], limits: dict[str, Any], unsafe: bool) -> None:
        import sys

        sys.path[:] = path + [entry for entry in sys.path if entry not in path]
        self._worker: Worker | None = None
        self._broken: dict[str, str] = {}
        try:
            self._worker = Worker(TaskRef.unpack(task), Limits(**limits), unsafe)
        except Exception as error:
            # Told with the first job: an actor whose start fails would look like one that was lost.
            self._broken = raised(error)

    def run(self, source: str, stage: str) -> bytes:
        return reply(self._worker, source, stage) if self._worker else wire.pack(self._broken)

    def cancel(self) -> None:
        if self._worker:
            self._worker.cancel()


class RayPool(QueuePool):
    """Like LocalPool; with an `address` it joins a running cluster, otherwise it starts a Ray of its own."""

    def __init__(
        self,
        task: TaskRef,
        workers: int,
        limits: Limits | None = None,
        unsafe: bool = False,
        address: str | None = None,
    ) -> None:
        super().__init__(task, workers, limits, unsafe)
        self.address = address

    async def start(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        local: dict[str, Any] = {"num_cpus": self.workers, "include_dashboard": False}
        try:
            if self.address:
                _reach(self.address)
            ray.init(
                address=self.address or "local",
                logging_level="error",
                log_to_driver=False,
                **({} if self.address else local),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise KvolveError(
                f"Ray at {self.address or 'this machine'} cannot be used ({error}). "
                "Give the address of a running cluster, or take --pool local."
            ) from error
        await super().start()

    async def close(self) -> None:
        import ray

        await super().close()
        ray.shutdown()

    async def hire(self) -> RemoteWorker:
        import ray

        # Two calls at a time: a job, and the cancellation of it.
        environment = {"env_vars": ONE_THREAD}
        actor = ray.remote(num_cpus=1, max_concurrency=2, runtime_env=environment)(RayWorker)
        return RayHandle(actor.remote(search_path(), self.task.pack(), asdict(self.limits), self.unsafe))


def _reach(address: str) -> None:
    """Raises OSError when nothing listens at "host:port"; Ray itself would try again for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACH_S).close()


class RayHandle:
    """The pool's end of one actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def run(self, source: str, stage: str) -> Outcome:
        return returned(wire.unpack(await self._call(self.actor.run.remote(source, stage))))

    async def cancel(self) -> None:
        with contextlib.suppress(WorkerLost):
            await self._call(self.actor.cancel.remote())

    async def close(self) -> None:
        """Kills the actor; its zygotes die with it."""
        import ray

        ray.kill(self.actor)

    @staticmethod
    async def _call(reference: Any) -> Any:
        import ray

        try:
            return await asyncio.wrap_future(reference.future())
        except (ray.exceptions.RayActorError, ray.exceptions.NodeDiedError) as error:
            raise WorkerLost from error
