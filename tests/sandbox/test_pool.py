import asyncio
import dataclasses
import os
import signal
import subprocess
import sys

import bench
import pytest
from bench import ENDLESS, GOOD, QUICK, TOY, all_end, depth, descendants, workers

from kvolve import KvolveError

PATIENT = dataclasses.replace(QUICK, wall_s=60.0, cpu_s=60)


@pytest.fixture
def patient():
    """A pool of one worker whose limits no test reaches."""
    pool = bench.local(limits=PATIENT)
    yield pool
    pool.close()


async def worker_pid(pool):
    return (await pool.submit(GOOD, "search")).value["worker"]


async def has_child_of_zygote(worker):
    """Waits until a candidate runs below `worker` (worker, bubblewrap, zygote, candidate)."""
    async with asyncio.timeout(20):
        while depth(worker) < 3:
            await asyncio.sleep(0)


def test_results_come_back_for_every_job(patient):
    async def all_jobs():
        jobs = [patient.pool.submit(bench.deciding(str(number)), "search") for number in range(20)]
        return [(await job).value["sum"] for job in jobs]

    assert patient.do(all_jobs()) == list(range(20))


def test_two_workers_share_the_jobs():
    pool = bench.local(workers=2)

    async def all_jobs():
        jobs = [pool.pool.submit(GOOD, "probe") for _ in range(20)]
        return {(await job).value["worker"] for job in jobs}

    assert len(pool.do(all_jobs())) == 2
    pool.close()


def test_killed_worker_is_replaced_and_its_job_done(patient):
    async def kill():
        pid = await worker_pid(patient.pool)
        job = patient.pool.submit(GOOD, "search")
        os.kill(pid, signal.SIGKILL)
        return pid, (await job).value

    pid, value = patient.do(kill())
    assert value["sum"] == 3
    assert value["worker"] != pid


def test_job_that_loses_two_workers_is_a_crash_and_the_pool_goes_on(patient):
    async def kill_twice():
        job = patient.pool.submit(ENDLESS, "search")
        for _ in range(2):
            async with asyncio.timeout(20):
                while not (present := workers()):
                    await asyncio.sleep(0)
            await has_child_of_zygote(present[0])
            os.kill(present[0], signal.SIGKILL)
            async with asyncio.timeout(20):
                while present[0] in workers():
                    await asyncio.sleep(0)
        return await job, await patient.pool.submit(GOOD, "search")

    lost, good = patient.do(kill_twice())
    assert lost.failure == "crash"
    assert good.value["sum"] == 3


def test_workers_that_died_idle_do_not_count_against_the_next_candidate():
    pool = bench.local(workers=2)

    async def kill_both():
        present = workers()
        for worker in present:
            os.kill(worker, signal.SIGKILL)
        async with asyncio.timeout(20):
            while set(present) & set(workers()):
                await asyncio.sleep(0)
        return await pool.pool.submit(GOOD, "search")

    assert pool.do(kill_both()).value["sum"] == 3
    pool.close()


def test_job_of_a_stopped_worker_is_repeated_by_an_idle_one(monkeypatch):
    monkeypatch.setattr("sandbox.pool.CLOSE_S", 0.1)
    pool = bench.local(workers=2, limits=dataclasses.replace(PATIENT, grace_s=0.1))
    slow = bench.deciding("7", before="__import__('time').sleep(0.3)")

    async def stop():
        for _ in range(8):  # what is usual
            await pool.pool.submit(GOOD, "search")
        present = workers()
        job = pool.pool.submit(slow, "search")
        async with asyncio.timeout(20):
            while not (running := [worker for worker in present if depth(worker) == 3]):
                await asyncio.sleep(0)
        os.kill(running[0], signal.SIGSTOP)
        return running[0], (await job).value

    stopped, value = pool.do(stop())
    assert value["sum"] == 7
    assert value["worker"] != stopped
    pool.close()
    assert all_end([stopped])


def test_job_that_is_slow_everywhere_is_repeated_once():
    pool = bench.local(workers=3, limits=dataclasses.replace(PATIENT, wall_s=3.0))

    async def watch():
        await asyncio.gather(*(pool.pool.submit(GOOD, "search") for _ in range(8)))
        present = workers()
        job = pool.pool.submit(ENDLESS, "search")
        most = 0
        while not job.done():
            most = max(most, sum(depth(worker) == 3 for worker in present))
            await asyncio.sleep(0.01)
        return most, await job

    most, outcome = pool.do(watch())
    assert most == 2
    assert outcome.failure == "timeout"
    pool.close()


def test_cancelled_job_frees_its_worker_at_once(patient):
    async def cancel():
        pid = await worker_pid(patient.pool)
        job = patient.pool.submit(ENDLESS, "search")
        await has_child_of_zygote(pid)
        job.cancel()
        async with asyncio.timeout(10):
            return pid, await worker_pid(patient.pool)

    before, after = patient.do(cancel())
    assert before == after


def test_job_cancelled_before_it_starts_never_runs(patient):
    async def cancel():
        first, second = (patient.pool.submit(GOOD, "search") for _ in range(2))
        second.cancel()
        return (await first).value["sum"]

    assert patient.do(cancel()) == 3


def test_error_of_the_sandbox_reaches_the_driver():
    pool = bench.local(dataclasses.replace(TOY, readable=("/no/such/recording",)))
    with pytest.raises(KvolveError, match="/no/such/recording"):
        pool.run(GOOD)
    pool.close()


def test_bug_in_the_actor_reaches_the_driver():
    pool = bench.local(dataclasses.replace(TOY, actor="toy_problem:broken_actor"))
    with pytest.raises(RuntimeError, match="a bug in the actor"):
        pool.run(GOOD)
    pool.close()


def test_unknown_stage_is_refused_when_it_is_submitted(patient):
    with pytest.raises(ValueError, match="no stage 'test'"):
        patient.run(GOOD, "test")


def test_pool_without_workers_is_refused():
    with pytest.raises(KvolveError, match="at least 1"):
        bench.local(workers=0)


def test_close_cancels_what_is_pending_and_leaves_no_process():
    pool = bench.local(limits=PATIENT, workers=2)

    async def start_and_close():
        await worker_pid(pool.pool)
        jobs = [pool.pool.submit(ENDLESS, "search") for _ in range(3)]
        for worker in workers():
            await has_child_of_zygote(worker)
        started = [pid for worker in workers() for pid in (worker, *descendants(worker))]
        await pool.pool.close()
        return jobs, started

    jobs, started = pool.do(start_and_close())
    assert all(job.cancelled() for job in jobs)
    assert all_end(started)


DRIVER = """
import asyncio, sys
sys.path[:] = {path!r}
import bench, test_pool
async def main():
    pool = bench.LocalPool(bench.TOY, 2, test_pool.PATIENT)
    await pool.start()
    jobs = [pool.submit(bench.ENDLESS, "search") for _ in range(2)]
    for worker in bench.children(__import__("os").getpid()):
        await test_pool.has_child_of_zygote(worker)
    print("running", flush=True)
    await asyncio.gather(*jobs)
asyncio.run(main())
"""


def test_killed_driver_leaves_no_process():
    path = [os.path.dirname(__file__), *sys.path]
    with subprocess.Popen([sys.executable, "-c", DRIVER.format(path=path)], stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline() == b"running\n"
        started = descendants(driver.pid)
        driver.kill()
    assert len(started) >= 6  # two workers, each with bubblewrap and a zygote, and candidates
    assert all_end(started)
