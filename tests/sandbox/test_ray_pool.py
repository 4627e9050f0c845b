import dataclasses
import os
import signal

import bench
import pytest
from bench import ENDLESS, GOOD, QUICK, TOY, deciding

from kvolve import KvolveError
from sandbox.ray_pool import RayPool


@pytest.fixture(scope="module")
def on_ray():
    pool = bench.Bench(RayPool(TOY, 1, dataclasses.replace(QUICK, wall_s=60.0, cpu_s=60)))
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


def test_bug_in_the_judge_reaches_the_driver(on_ray):
    with pytest.raises(RuntimeError, match="a bug in the judge"):
        on_ray.run("def decide(carried): return {'answer': np.ones(1), 'bug': np.ones(1)}")
