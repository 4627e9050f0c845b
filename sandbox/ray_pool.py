"""Workers as Ray actors: the same pool, on this machine or on a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kvolve import KvolveError
from sandbox import wire
from sandbox.isolation import ONE_THREAD, search_path
from sandbox.pool import QueuePool, RemoteWorker, WorkerLost
from sandbox.shipping import Parcel, moved, settle, wrap
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import Worker, raised, reply, returned

REACH_S = 5.0


class RayWorker:
    """What runs in the actor's process. Replies leave it packed as on the local pool's pipe."""

    def __init__(
        self,
        path: list[str],
        task: dict[str, Any],
        parcels: Sequence[Parcel],
        limits: dict[str, Any],
        unsafe: bool,
    ) -> None:
        import sys

        import ray

        sys.path[:] = merged_path(path, sys.path)
        self._worker: Worker | None = None
        self._broken: dict[str, str] = {}
        try:
            places = {parcel.path: settle(parcel, ray.get) for parcel in parcels}
            self._worker = Worker(moved(TaskRef.unpack(task), places), Limits(**limits), unsafe)
        except Exception as error:
            # Told with the first job: an actor whose start fails would look like one that was lost.
            self._broken = raised(error)

    def node(self) -> str:
        """The id of the node that this actor runs on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, source: str, stage: str, sample: int) -> bytes:
        return reply(self._worker, source, stage, sample) if self._worker else wire.pack(self._broken)

    def cancel(self) -> None:
        if self._worker:
            self._worker.cancel()


def merged_path(driver: Sequence[str], own: Sequence[str]) -> list[str]:
    """Where an actor looks for modules: the driver's folders that this node has, then the node's own."""
    shared = [entry for entry in driver if os.path.exists(entry)]
    return shared + [entry for entry in own if entry not in shared]


class RayPool(QueuePool):
    """Like LocalPool; with an `address` it joins a running cluster, otherwise it starts a Ray of its own.

    Each worker asks Ray for `cpus_per_worker` and `gpus_per_worker`; with a fraction of a GPU, several
    workers share one.
    """

    def __init__(
        self,
        task: TaskRef,
        workers: int,
        limits: Limits | None = None,
        unsafe: bool = False,
        *,
        address: str | None = None,
        cpus_per_worker: float = 1,
        gpus_per_worker: float = 0,
    ) -> None:
        super().__init__(task, workers, limits, unsafe)
        self.address = address
        self.cpus_per_worker = cpus_per_worker
        self.gpus_per_worker = gpus_per_worker
        self._parcels: list[Parcel] = []

    async def start(self) -> None:
        """Joins or starts Ray, then as every pool. Raises KvolveError where no worker could ever run."""
        import ray

        self._connect()
        try:
            self._check_room()
            if self.address:  # a Ray of its own has no other machine
                self._parcels = [wrap(path, ray.put) for path in self.task.data]
        except BaseException:
            ray.shutdown()
            raise
        await super().start()

    async def close(self) -> None:
        import ray

        await super().close()
        ray.shutdown()

    async def hire(self) -> RemoteWorker:
        import ray

        actor = ray.remote(
            num_cpus=self.cpus_per_worker,
            num_gpus=self.gpus_per_worker,
            max_concurrency=2,  # a job, and the cancellation of it
            runtime_env={"env_vars": ONE_THREAD},
        )(RayWorker)
        task, limits = self.task.pack(), asdict(self.limits)
        return RayHandle(actor.remote(search_path(), task, self._parcels, limits, self.unsafe))

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        cpus = math.ceil(self.workers * self.cpus_per_worker)
        local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False}
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

    def _check_room(self) -> None:
        import ray

        cpus, gpus = self.cpus_per_worker, self.gpus_per_worker
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            total = ray.cluster_resources()
            raise KvolveError(
                f"Each worker asks for {cpus:g} CPUs and {gpus:g} GPUs, and no node of Ray has as many; in "
                f"all there are {total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs. Add a node, "
                "or change --cpus-per-worker or --gpus-per-worker."
            )


def _reach(address: str) -> None:
    """Raises OSError when nothing listens at "host:port"; Ray itself would try again for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACH_S).close()


class RayHandle:
    """The pool's end of one actor, which waits at Ray until a node has room for it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.node = ""

    async def ready(self) -> None:
        self.node = await self._call(self.actor.node.remote())

    async def run(self, source: str, stage: str, sample: int) -> Outcome:
        arrived = self.actor.node.remote()  # fails when the actor was lost before it got the job
        try:
            return returned(wire.unpack(await self._call(self.actor.run.remote(source, stage, sample))))
        except WorkerLost as lost:
            if not lost.blameless:
                await self._arrival(arrived)
            raise

    async def cancel(self) -> None:
        with contextlib.suppress(WorkerLost):
            await self._call(self.actor.cancel.remote())

    async def close(self) -> None:
        """Kills the actor; its zygotes die with it."""
        import ray

        ray.kill(self.actor)

    async def _arrival(self, arrived: Any) -> None:
        try:
            await self._call(arrived)
        except WorkerLost as lost:
            raise WorkerLost(blameless=True) from lost

    async def _call(self, reference: Any) -> Any:
        """What an actor's method returns. Raises WorkerLost, blameless when the node is lost with it.

        Ray says that an actor died when its process did, and that it is unavailable when its node cannot be
        reached; a node that was removed in good order is known to be no more.
        """
        import ray
        from ray import exceptions

        unreachable = exceptions.ActorUnavailableError, exceptions.NodeDiedError, exceptions.ObjectLostError
        try:
            return await asyncio.wrap_future(reference.future())
        except unreachable as error:
            raise WorkerLost(blameless=True) from error
        except exceptions.RayActorError as error:
            if error.actor_init_failed:
                reason = str(error).strip().splitlines()[-1]
                raise KvolveError(
                    f"Ray could not start a worker ({reason}). Install the same kvolve on every node of the "
                    "cluster."
                ) from error
            alive = any(node["Alive"] and node["NodeID"] == self.node for node in ray.nodes())
            raise WorkerLost(blameless=not alive) from error
