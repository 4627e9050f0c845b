"""What is said between the proposer and a model, and how the archive writes it down."""

import re
from dataclasses import dataclass
from typing import Literal

LONGEST_ECHO = 24_000  # characters of a reply that are sent back to the model that wrote it
THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
END_OF_THOUGHT = re.compile(r"</think(?:ing)?>")
BEGIN, END = "<think>\n", "\n</think>\n\n"


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


Conversation = tuple[Message, ...]


def as_text(conversation: Conversation) -> str:
    """A conversation as the archive keeps it: the first message, then the others under a line each."""
    first, *others = conversation
    return first.text + "".join(f"\n\n===== {message.role} =====\n\n{message.text}" for message in others)


def with_reasoning(text: str, reasoning: str) -> str:
    """A reply as the archive keeps it: its reasoning in front, the way many models write it themselves."""
    return f"{BEGIN}{reasoning}{END}{text}" if reasoning else text


def without_reasoning(reply: str) -> str:
    """The answer in a reply: what is left when the reasoning in front of it is taken away."""
    answer = THOUGHT.sub("", reply)
    # A template may have opened the reasoning already, so that the model only ends it.
    if last := list(END_OF_THOUGHT.finditer(answer)):
        answer = answer[last[-1].end() :]
    return answer.strip("\n")


def answered(conversation: Conversation, answer: str, complaint: str) -> Conversation:
    """The conversation after an answer that is not good enough, and what is wrong with it."""
    if len(answer) > LONGEST_ECHO:
        answer = answer[:LONGEST_ECHO] + "\n[...]"
    # some servers refuse an empty turn
    return (*conversation, Message("assistant", answer or "(no answer)"), Message("user", complaint))
