"""From a prompt to a program: the conversation with a model, and the choice among several of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from database.records import CallRecord
from evolve.llm.conversation import Conversation, answered, without_reasoning
from evolve.llm.errors import NotRecordedError, ReplyError
from evolve.llm.overthinking import Thinking, examine
from evolve.llm.questions import Calls

Read = TypeVar("Read")


@dataclass(frozen=True)
class Heard(Generic[Read]):
    """How a conversation ended: with what was read in the last reply, or with what is wrong with it."""

    calls: tuple[CallRecord, ...]
    read: Read | None
    error: str = ""
    source: str = ""  # of a reply that cannot be used, what comes closest to a program

    @property
    def reply(self) -> str:
        return self.calls[-1].reply


@dataclass(frozen=True)
class Attempt:
    """One program, or what is wrong with the reply that was to hold it; `at` is when that reply arrived.

    `sample` tells apart the attempts of one prompt.
    """

    source: str
    error: str
    thinking: Thinking
    at: float
    sample: int = 0


class Talk:
    """Asks a model, and asks it again with what is wrong when its reply cannot be used."""

    def __init__(self, calls: Calls, operator: str, tries: int, complaint: Callable[[str], str]) -> None:
        """`tries` is how often a reply may be sent back, `complaint` what is said then."""
        self.calls = calls
        self.operator = operator
        self.tries = tries
        self.complaint = complaint

    async def hear(
        self, conversation: Conversation, read: Callable[[str], Read], sample: int = 0
    ) -> Heard[Read]:
        """The conversation until `read`, which raises ReplyError, finds no fault with a reply."""
        made: list[CallRecord] = []
        while True:
            made.append(await self.calls.ask(conversation, self.operator, sample, complains=bool(made)))
            try:
                return Heard(tuple(made), read(made[-1].reply))
            except ReplyError as unusable:
                error, source = str(unusable), unusable.source
            if len(made) > self.tries:
                return Heard(tuple(made), None, error, source)
            answer = without_reasoning(made[-1].reply)
            conversation = answered(conversation, answer, self.complaint(error))

    async def attempt(
        self, conversation: Conversation, parent: str, read: Callable[[str], str], sample: int = 0
    ) -> Attempt:
        """The program that a conversation comes to, in place of `parent`."""
        heard = await self.hear(conversation, read, sample)
        source = heard.source if heard.read is None else heard.read
        reasoning = sum(call.tokens_reasoning for call in heard.calls)
        thinking = examine(heard.reply, reasoning, parent, source, heard.error)
        return Attempt(source, heard.error, thinking, heard.calls[-1].at, sample)


async def best_of(
    attempts: list[asyncio.Task[Attempt]], m: int, keep: Literal["least", "first"]
) -> list[Attempt]:
    """The m attempts that are to be evaluated: those that can be used before the others, and among them those
    that show the least overthinking, or those whose reply came first.

    Once the first m are there, nobody waits for the others ("short-m@k": Hassid et al., "Don't Overthink it",
    arXiv:2505.17813).
    """
    under_way = set(attempts)
    came: list[Attempt] = []
    missing: NotRecordedError | None = None
    try:
        while under_way and not (keep == "first" and sum(not attempt.error for attempt in came) >= m):
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    came.append(task.result())
                except NotRecordedError as error:
                    if keep == "least":
                        raise
                    missing = error  # nobody waited for it when it was recorded
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
    if len(came) < m and missing is not None:
        raise missing
    return sorted(came, key=_first if keep == "first" else _least)[:m]


def _first(attempt: Attempt) -> tuple[bool, float, int]:
    return bool(attempt.error), attempt.at, attempt.sample


def _least(attempt: Attempt) -> tuple[bool, tuple[float, ...], int]:
    return bool(attempt.error), attempt.thinking.order, attempt.sample
