"""One question to a model, and whoever answers it: a server, or the transcript of another run."""

from dataclasses import dataclass
from typing import Protocol

from database.records import CallRecord
from evolve.llm.conversation import Conversation, as_text
from evolve.llm.settings import Model


@dataclass(frozen=True)
class Question:
    """What a proposal asks a model; `position` counts the calls of the proposal from 0."""

    number: int
    position: int
    model: Model
    conversation: Conversation

    @property
    def prompt(self) -> str:
        """The whole conversation so far, as the archive keeps it."""
        return as_text(self.conversation)


class Answers(Protocol):
    """Answers questions; each answer is a call ready for the archive."""

    async def answer(self, question: Question) -> CallRecord:
        """The call that answered `question`. Raises KvolveError where nobody can."""

    async def close(self) -> None:
        """Gives connections back."""
