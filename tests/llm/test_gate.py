"""The gate to an endpoint, by itself."""

import asyncio

import pytest

from evolve.llm.gate import FAULTS_TO_CLOSE, LONGEST_DELAY_S, CallError, EndpointLostError, Gate, backoff_s


class Endpoint:
    """Fails a number of times, and counts who is there at a time while it is known to be dead."""

    def __init__(self, time, said: list[str], faults: int) -> None:
        self.gate = Gate("here", 10_000, said.append, time.sleep, time.clock)
        self.faults = faults
        self.present = 0
        self.most_trials = 0
        self.order: list[int] = []

    async def call(self, caller: int) -> None:
        while True:
            try:
                async with self.gate.passage():
                    await self.serve(caller)
                    return
            except CallError:
                await asyncio.sleep(0)

    async def serve(self, caller: int) -> None:
        self.present += 1
        self.order.append(caller)
        if not self.gate.is_open:
            self.most_trials = max(self.most_trials, self.present)
        await asyncio.sleep(0)
        self.present -= 1
        self.faults -= 1
        if self.faults >= 0:
            raise CallError("out")


def test_dead_endpoint_sees_one_trial_at_a_time_by_everybody_in_turn(time, said):
    endpoint = Endpoint(time, said, faults=30)

    async def work() -> None:
        await asyncio.gather(*(endpoint.call(caller) for caller in range(6)))

    asyncio.run(work())
    assert endpoint.most_trials == 1
    trials = endpoint.order[6:30]
    assert {trials.count(caller) for caller in range(6)} <= {3, 4, 5}
    assert len(said) == 2


def test_everybody_goes_on_at_once_when_it_answers(time, said):
    endpoint = Endpoint(time, said, faults=6)

    async def work() -> None:
        await asyncio.gather(*(endpoint.call(caller) for caller in range(6)))

    asyncio.run(work())
    assert len(endpoint.order) == 12
    assert endpoint.gate.is_open


def test_an_answer_forgets_earlier_faults(time, said):
    gate = Gate("here", 100, said.append, time.sleep, time.clock)

    async def call(fault: bool) -> None:
        async with gate.passage():
            if fault:
                raise CallError("out")

    async def work() -> None:
        for _ in range(5):
            for _ in range(FAULTS_TO_CLOSE - 1):
                with pytest.raises(CallError):
                    await call(fault=True)
            await call(fault=False)

    asyncio.run(work())
    assert said == []


def test_those_who_wait_learn_that_an_endpoint_is_lost(time, said):
    gate = Gate("here", 50, said.append, time.sleep, time.clock)

    async def call() -> None:
        while True:
            try:
                async with gate.passage():
                    await asyncio.sleep(0)
                    raise CallError("out")
            except CallError:
                await asyncio.sleep(0)

    async def work() -> list[BaseException | None]:
        return await asyncio.gather(*(call() for _ in range(5)), return_exceptions=True)

    assert {type(error) for error in asyncio.run(work())} == {EndpointLostError}
    assert 50 <= time.now <= 50 + LONGEST_DELAY_S


def test_cancelled_trial_leaves_the_gate_to_others(time, said):
    endpoint = Endpoint(time, said, faults=FAULTS_TO_CLOSE)
    reached = asyncio.Event()

    async def hang() -> None:
        async with endpoint.gate.passage():
            reached.set()
            await asyncio.Event().wait()

    async def work() -> None:
        for _ in range(FAULTS_TO_CLOSE):
            with pytest.raises(CallError):
                async with endpoint.gate.passage():
                    raise CallError("out")
        endpoint.faults = 0
        trial = asyncio.create_task(hang())
        await reached.wait()
        other = asyncio.create_task(endpoint.call(1))
        await asyncio.sleep(0)
        assert endpoint.order == []
        trial.cancel()
        await other

    asyncio.run(work())
    assert endpoint.order == [1]


def test_backoff_doubles_up_to_its_limit_and_is_jittered():
    drawn = [[backoff_s(fault) for _ in range(200)] for fault in (1, 2, 3, 20, 10_000)]
    for waits, limit in zip(drawn, (1, 2, 4, LONGEST_DELAY_S, LONGEST_DELAY_S), strict=True):
        assert 0 <= min(waits) < limit / 2 < max(waits) <= limit
