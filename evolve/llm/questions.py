"""One question to a model, and whoever answers it: a server, the transcript of another run, or a person."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from database.archive import Archive
from database.records import CallRecord
from evolve.llm.conversation import Conversation, as_text
from evolve.llm.settings import Model


@dataclass(frozen=True)
class Question:
    """What a proposal asks a model; `position` counts the calls of the proposal from 0.

    `sample` tells apart conversations that begin with the same question; `complains` says that the question
    is what was wrong with the reply before.
    """

    number: int
    position: int
    model: Model
    conversation: Conversation
    operator: str = ""
    sample: int = 0
    complains: bool = False

    @property
    def prompt(self) -> str:
        """The whole conversation so far, as the archive keeps it."""
        return as_text(self.conversation)


class Answers(Protocol):
    """Answers questions; each answer is a call ready for the archive."""

    async def answer(self, question: Question) -> CallRecord:
        """The call that answered `question`. Raises KvolveError where nobody can."""

    def stop(self) -> None:
        """What cannot be answered now need not be answered at all."""

    async def close(self) -> None:
        """Gives connections back."""


class Calls:
    """The calls of one proposal: those that the archive has are not made again, others are stored at once."""

    def __init__(
        self,
        archive: Archive,
        answers: Answers,
        number: int,
        model: Model,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_stopped` says whether nothing more is to be asked."""
        self.is_stopped = is_stopped
        self.archive = archive
        self.answers = answers
        self.number = number
        self.model = model
        stored = archive.calls(number) if number <= archive.last_asked else []
        self.stored = {(call.sample, call.prompt): call for call in stored}
        self.position = len(self.stored)
        self.made: list[CallRecord] = []  # in this process
        self.used: list[CallRecord] = []  # for this proposal, now or before the run was killed

    async def ask(
        self, conversation: Conversation, operator: str, sample: int = 0, complains: bool = False
    ) -> CallRecord:
        """The answer to a conversation, from the archive or from the model.

        Raises CancelledError when nothing more is to be asked: a resumed run goes on with the conversation.
        """
        question = Question(self.number, self.position, self.model, conversation, operator, sample, complains)
        # Another prompt was asked before templates or settings were changed: its reply is no answer now.
        call = self.stored.get((sample, question.prompt))
        if call is None:
            if self.is_stopped():
                raise asyncio.CancelledError
            answered = await self.answers.answer(question)
            # others may have been answered meanwhile
            call = replace(answered, position=self.position, operator=operator, sample=sample)
            self.archive.add_call(call)
            self.position += 1
            self.made.append(call)
        self.used.append(call)
        return call
