"""The gate to an endpoint: open while it answers; while it is dead, one trial call at a time."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kvolve import KvolveError

FAULTS_TO_CLOSE = 3  # in a row, whoever met them
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0

Say = Callable[[str], None]
Sleep = Callable[[float], Awaitable[object]]


class EndpointLostError(KvolveError):
    """An endpoint stays dead for too long: the run ends, and can be resumed."""

    exit_code = 1


class CallError(Exception):
    """A call failed in a way that may pass; `retry_after_s` is how long the server wants to be left alone."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def backoff_s(faults: int) -> float:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015)."""
    return random.uniform(0, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(faults - 1, 16)))


class Gate:
    """Lets calls through to one endpoint, and holds them back while it does not answer."""

    def __init__(
        self,
        address: str,
        give_up_s: float,
        say: Say,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self.give_up_s = give_up_s
        self.say = say
        self.sleep = sleep
        self.clock = clock
        self.answers = 0
        self.faults = 0  # since the last answer
        self.first_fault = 0.0  # when the first of them was met
        self.next_trial = 0.0  # not to be made before
        self.trying = False
        self.waits = True  # between trials
        self.lost: EndpointLostError | None = None
        self.changed = asyncio.Condition()

    @property
    def is_open(self) -> bool:
        return self.faults < FAULTS_TO_CLOSE

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """Held during one call, which may have to wait; tells the gate how it went.

        A CallError closes the gate when it was one too many. Raises EndpointLostError when nobody is to
        wait any longer.
        """
        trial = await self._enter()
        try:
            if trial and self.waits:
                await self.sleep(max(0.0, self.next_trial - self.clock()))
            yield
        except CallError as fault:
            self._failed(fault)
            raise
        else:
            self._answered()
        finally:
            async with self.changed:
                self.trying = self.trying and not trial
                self.changed.notify_all()

    async def _enter(self) -> bool:
        """Waits until a call may begin; True if it is the trial call at a dead endpoint."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.lost or self.is_open or not self.trying)
            if self.lost:
                raise self.lost
            trial = not self.is_open
            self.trying = self.trying or trial
            return trial

    def _answered(self) -> None:
        if not self.is_open:
            self.say(f"{self.address} answers again.")
        self.answers += 1
        self.faults = 0

    def _failed(self, fault: CallError) -> None:
        now = self.clock()
        if self.faults == 0:
            self.first_fault = now
        self.faults += 1
        delay = max(fault.retry_after_s, backoff_s(self.faults))
        self.next_trial = now + delay
        if self.faults == FAULTS_TO_CLOSE:
            self.say(
                f"{self.address} does not answer ({fault}). Proposals wait for it, evaluations go on; the "
                f"run ends, and can be resumed, if that lasts {self.give_up_s:g} s."
            )
        silent_s, pause_s = now - self.first_fault, fault.retry_after_s
        if max(silent_s, pause_s) < self.give_up_s:
            return
        what = f"has not answered for {silent_s:.0f} s"
        if pause_s >= self.give_up_s:
            what = f"is not to be asked for {pause_s:.0f} s"
        self.lost = EndpointLostError(f"{self.address} {what} ({fault}). `kvolve resume` goes on later.")
        raise self.lost
