"""Pools on a cluster whose nodes come and go; all its nodes are on this machine."""

import asyncio
import dataclasses
import logging
import os
import shutil
import signal

import bench
import pytest
from bench import ENDLESS, GOOD, QUICK, TOY, children, deciding, depth

from kvolve import KvolveError
from sandbox import pool as pools
from sandbox.ray_pool import RayPool

PATIENT = dataclasses.replace(QUICK, wall_s=60.0, cpu_s=60)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs: each test brings the nodes that it needs, and takes them away."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:  # what the nodes start with, and so their actors
        patch.setenv("KVOLVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made
        made.shutdown()


@pytest.fixture
def nodes(cluster):
    """Adds nodes of one CPU each."""
    before = set(cluster.worker_nodes)
    yield lambda number: [cluster.add_node(num_cpus=1) for _ in range(number)]
    for node in cluster.worker_nodes - before:
        cluster.remove_node(node)


@pytest.fixture
def on(cluster):
    """Starts a pool on the cluster."""
    started = []

    def start(workers, task=TOY, pool=RayPool, **resources):
        started.append(bench.Bench(pool(task, workers, PATIENT, address=cluster.address, **resources)))
        return started[-1]

    yield start
    for made in started:
        made.close()


async def finished(jobs, number):
    """Waits until so many jobs are done."""
    async with asyncio.timeout(60):
        for count, job in enumerate(asyncio.as_completed(jobs), 1):
            await job
            if count == number:
                return


def test_every_evaluation_survives_a_node_that_goes_and_one_that_comes(cluster, nodes, on, toy):
    gone, _ = nodes(2)
    ray_pool = on(2)

    async def evaluate():
        jobs = [ray_pool.pool.submit(deciding(f"{number} / 3"), "search") for number in range(1000)]
        await finished(jobs, 300)
        cluster.remove_node(gone)
        await finished(jobs, 500)  # the worker that has no room now does not hold a job
        nodes(1)
        return [(await job).value for job in jobs]

    values = ray_pool.do(evaluate())
    assert [value["sum"] for value in values] == [number / 3 for number in range(1000)]
    assert len({value["worker"] for value in values}) == 3
    for number in range(0, 1000, 100):
        here = toy.run(deciding(f"{number} / 3"), "search").value
        assert values[number] == here | {"worker": values[number]["worker"]}


def ray_workers():
    """Process ids of all actors on this machine that have a sandbox."""
    raylets = children(os.getpid())
    return [actor for raylet in raylets for actor in children(raylet) if depth(actor) >= 2]


async def busy_worker(gone=()):
    """Waits until a candidate runs in an actor that is not among `gone`, and returns the actor."""
    async with asyncio.timeout(30):
        while not (busy := [actor for actor in ray_workers() if depth(actor) == 3 and actor not in gone]):
            await asyncio.sleep(0.01)
    return busy[0]


def test_lost_nodes_are_not_the_fault_of_the_candidate_that_ran_there(cluster, nodes, on):
    (node,) = nodes(1)
    ray_pool = on(1)

    async def lose_two():
        job = ray_pool.pool.submit(ENDLESS, "search")
        lost, last = [], node
        for _ in range(2):
            lost.append(await busy_worker(lost))
            cluster.remove_node(last)
            (last,) = nodes(1)
        await busy_worker(lost)
        still_wanted = not job.done()
        job.cancel()
        return still_wanted, await ray_pool.pool.submit(GOOD, "search")

    still_wanted, good = ray_pool.do(lose_two())
    assert still_wanted
    assert good.value["sum"] == 3


def test_candidate_whose_actor_dies_twice_is_a_crash(nodes, on):
    nodes(1)
    ray_pool = on(1)

    async def kill_twice():
        job = ray_pool.pool.submit(ENDLESS, "search")
        killed = []
        for _ in range(2):
            killed.append(await busy_worker(killed))
            os.kill(killed[-1], signal.SIGKILL)
        return await job

    assert ray_pool.do(kill_twice()).failure == "crash"


def test_pool_without_nodes_says_so_once_and_goes_on_with_the_next(cluster, nodes, on, monkeypatch, caplog):
    monkeypatch.setattr(pools, "UNMANNED_S", 0.5)
    (node,) = nodes(1)
    ray_pool = on(1)

    async def lose_all():
        await ray_pool.pool.submit(GOOD, "search")
        cluster.remove_node(node)
        job = ray_pool.pool.submit(GOOD, "search")
        async with asyncio.timeout(20):
            while not caplog.records:
                await asyncio.sleep(0.01)
        nodes(1)
        return await job

    with caplog.at_level(logging.WARNING, "kvolve"):
        assert ray_pool.do(lose_all()).value["sum"] == 3
    assert [record.message.split(",")[0] for record in caplog.records] == ["No sandbox worker is left"]


def test_request_that_no_node_can_meet_is_refused_at_the_start(nodes, on):
    nodes(2)  # two nodes of one CPU are no room for a worker of two
    for asked in ({"cpus_per_worker": 2}, {"gpus_per_worker": 0.5}):
        with pytest.raises(KvolveError, match="has as many; in all there are 2 CPUs and 0 GPUs"):
            on(1, **asked)


def test_cluster_without_any_cpu_is_refused_at_the_start(on):
    with pytest.raises(KvolveError, match="in all there are 0 CPUs"):
        on(1)


async def both_workers(pool):
    """The values of two workers, once both have done a job."""
    values = {}
    async with asyncio.timeout(60):
        while len(values) < 2:
            done = await asyncio.gather(*(pool.submit(GOOD, "search") for _ in range(8)))
            values |= {outcome.value["worker"]: outcome.value for outcome in done}
    return list(values.values())


def test_workers_share_a_gpu(cluster, nodes, on):
    nodes(0)
    cluster.add_node(num_cpus=1, num_gpus=1)
    ray_pool = on(2, cpus_per_worker=0.5, gpus_per_worker=0.5)
    assert len(ray_pool.do(both_workers(ray_pool.pool))) == 2


class Forgetful(RayPool):
    """Loses the task's data before any worker is hired, as if the nodes were other machines."""

    async def hire(self):
        for path in self.task.data:
            shutil.rmtree(path, ignore_errors=True)
        return await super().hire()


def test_data_travel_to_nodes_that_lack_them(cluster, nodes, on, tmp_path):
    nodes(0)
    cluster.add_node(num_cpus=2)
    recording = tmp_path / "recording"
    (recording / "inner").mkdir(parents=True)
    (recording / "inner" / "said").write_text("keys and values")
    judge, argument = "reading_problem:ReadingJudge", {"recording": str(recording)}
    task = dataclasses.replace(TOY, judge=judge, arguments=argument, data=(str(recording),))
    ray_pool = on(2, task=task, pool=Forgetful)
    here, there = ray_pool.do(both_workers(ray_pool.pool))
    assert not recording.exists()
    assert here["said"] == there["said"] == "keys and values"
    assert here["folder"] == there["folder"]
    assert here["folder"].startswith(os.path.join(os.environ["KVOLVE_CACHE"], "shipped"))
