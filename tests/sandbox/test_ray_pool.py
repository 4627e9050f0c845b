import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import bench
import pytest
from bench import ENDLESS, GOOD, QUICK, TOY, all_end, deciding, depth, descendants

from kvolve import KvolveError
from sandbox.ray_pool import RayPool, merged_path

PATIENT = dataclasses.replace(QUICK, wall_s=60.0, cpu_s=60)


@pytest.fixture(scope="module")
def on_ray():
    pool = bench.Bench(RayPool(TOY, 1, PATIENT))
    yield pool
    pool.close()


@pytest.mark.parametrize("address", ["no address", "127.0.0.1:1", "nowhere.invalid:6379"])
def test_cluster_that_is_not_there_is_a_clear_error(address):
    with pytest.raises(KvolveError, match="--pool local"):
        bench.Bench(RayPool(TOY, 1, address=address))


def test_ray_gives_what_the_local_pool_gives(on_ray, toy):
    for source in (GOOD, deciding("1 / 3"), "x =", "raise ValueError('no')"):
        here, there = toy.run(source, "probe"), on_ray.run(source, "probe")
        assert (there.failure, there.message) == (here.failure, here.message)
        if here.value:
            assert there.value == here.value | {"worker": there.value["worker"]}


def test_killed_actor_is_replaced_and_its_job_done(on_ray):
    async def kill():
        pid = (await on_ray.pool.submit(GOOD, "search")).value["worker"]
        job = on_ray.pool.submit(GOOD, "search")
        os.kill(pid, signal.SIGKILL)
        return (await job).value

    assert on_ray.do(kill())["sum"] == 3


def test_cancelled_job_frees_its_actor(on_ray):
    async def cancel():
        first = on_ray.pool.submit(ENDLESS, "search")
        second = on_ray.pool.submit(GOOD, "search")
        first.cancel()
        return (await second).value

    assert on_ray.do(cancel())["sum"] == 3


def test_node_without_the_folders_of_the_driver_uses_its_own(tmp_path):
    here, own = str(tmp_path), ["/own/library", str(tmp_path)]
    assert merged_path(["/only/at/the/driver", here], own) == [here, "/own/library"]


DRIVER = """
import asyncio, sys
sys.path[:] = {path!r}
import bench, test_ray_pool
async def main():
    pool = test_ray_pool.RayPool(bench.TOY, 2, test_ray_pool.PATIENT)
    await pool.start()
    for _ in range(20):
        await pool.submit(bench.GOOD, "search")
    job = pool.submit(bench.ENDLESS, "search")
    print("running", flush=True)
    await job
asyncio.run(main())
"""


def has_sandbox(pid):
    """Whether a process is an actor of this pool; Ray's own agents outlive their driver for a minute."""
    return b"RayWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_killed_driver_leaves_no_worker_and_no_zygote_of_its_ray():
    path = [os.path.dirname(__file__), *sys.path]
    with subprocess.Popen([sys.executable, "-c", DRIVER.format(path=path)], stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline() == b"running\n"
        actors, started = [], []
        # two actors, each with bubblewrap and a zygote, and one with a candidate; one may be slower to start
        while len(actors) < 2 or len(started) < 7 or depth(driver.pid) < 5:
            assert driver.poll() is None
            actors = [pid for pid in descendants(driver.pid) if has_sandbox(pid)]
            started = actors + [pid for actor in actors for pid in descendants(actor)]
        driver.kill()
    assert len(actors) == 2
    assert all_end(started, within_s=20.0)
