"""The inbox: each prompt is a file of the run directory, and the reply is taken from a file beside it.

    RUN/inbox/0017-0.md          what is asked for proposal 17, at first
    RUN/inbox/0017-0.reply.md    the reply, from a person or any program
    RUN/inbox/0017-0.skip        or this, when there is to be none
    RUN/inbox/0017-1.md          what is wrong with the reply, and the conversation so far
    RUN/inbox/answered/          all of them, once the archive has what was said

The files are all there is: whoever answers needs neither the archive nor a run that goes on.
"""

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from database.archive import Archive
from database.records import CallRecord
from evolve.llm.conversation import Conversation, as_text
from evolve.llm.prompt import EXPLAIN, Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.questions import Answers, Calls, Question
from evolve.llm.reply import LONGEST_REPLY
from evolve.llm.settings import LLM, Model
from evolve.proposer import Draft, Request, Reservation
from kvolve import KvolveError

if TYPE_CHECKING:
    from numpy.random import Generator

INBOX = "inbox"  # the proposer, the folder, and the model in the ledger
ANSWERED = "answered"
SKIP = "skip"  # the operator of a proposal that was skipped
SKIPPED = "(skipped)"  # its last reply
TRIES = 10  # how often a reply may be sent back; the most that the setting allows
POLL_S = 0.5
OPERATORS = {"rewrite": 0.4, "diff": 0.35, "crossover": 0.15, "repair": 0.1}
BY_HAND = Model.model_validate({"model": INBOX, "price_in": 0, "price_out": 0})
PROMPT_NAME = re.compile(r"(\d{4,})-(\d+)\.md")
HEAD = re.compile(r"<!-- parent (\w*), prompt (\w+): .* -->\n")


class InboxLostError(KvolveError):
    """The folder cannot be used any longer: the run ends, and can be resumed."""

    exit_code = 1


class SkippedError(Exception):
    """A question that gets no reply."""


@dataclass(frozen=True, order=True)
class Letter:
    """One prompt file and what belongs to it; `position` counts the prompts of a proposal from 0."""

    number: int
    position: int
    folder: Path

    @property
    def prompt(self) -> Path:
        return self._file("md")

    @property
    def reply(self) -> Path:
        return self._file("reply.md")

    @property
    def skip(self) -> Path:
        return self._file("skip")

    def _file(self, ending: str) -> Path:
        return self.folder / f"{self.number:04d}-{self.position}.{ending}"

    def reply_state(self) -> tuple[int, ...] | None:
        """What changes whenever somebody writes the reply; None as long as nothing is in it."""
        try:
            found = self.reply.stat()
        except FileNotFoundError:
            return None
        return (found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else None

    def is_open(self) -> bool:
        """Whether it waits for a reply."""
        return self.prompt.is_file() and not self.skip.exists() and self.reply_state() is None

    def read(self) -> tuple[str, str]:
        """The hash of the parent, "" if it is not known, and the prompt; both "" if the file was taken."""
        text = self._content()
        head = HEAD.match(text)
        return (head[1], text[head.end() :].lstrip("\n")) if head else ("", text)

    def asks(self, fingerprint: str) -> bool:
        """Whether the prompt file is there with this prompt, whatever else was written into it."""
        head = HEAD.match(self._content())
        return head is not None and head[2] == fingerprint

    def asked_at(self) -> float:
        """When the prompt was written, in seconds since 1970 (UTC); now, if somebody has taken the file."""
        try:
            return self.prompt.stat().st_mtime
        except FileNotFoundError:
            return time.time()

    def _content(self) -> str:
        try:
            return self.prompt.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def put_away(self, prefix: str = "") -> None:
        """Moves what there is of it out of sight."""
        for path in (self.prompt, self.reply, self.skip):
            if path.exists():
                (self.folder / ANSWERED).mkdir(exist_ok=True)
                path.replace(self.folder / ANSWERED / (prefix + path.name))


def letters(folder: Path) -> list[Letter]:
    """All prompts that are in an inbox, in their order, open or not."""
    names = (PROMPT_NAME.fullmatch(path.name) for path in folder.glob("*.md"))
    return sorted(Letter(int(name[1]), int(name[2]), folder) for name in names if name)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is not seen before it is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


class Inbox:
    """Writes questions as files, any number at a time, and waits for the replies."""

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`say` tells the user where to look."""
        self.folder = folder
        self.say = say
        self.sleep = sleep
        self.parents: dict[int, str] = {}  # hashes, by proposal under way: for whoever looks at a prompt
        self.told: set[str] = set()

    async def close(self) -> None:
        """What is open stays open: a resumed run finds it again."""

    def stop(self) -> None:
        """Nothing: replies that come are taken by a resumed run."""

    async def answer(self, question: Question) -> CallRecord:
        """The reply of whoever was faster. Raises InboxLostError when the folder cannot be used."""
        letter = Letter(question.number, question.position, self.folder)
        try:
            for earlier in range(question.position):  # their replies are in the archive
                Letter(question.number, earlier, self.folder).put_away()
            self._write(letter, question)
            asked_at = letter.asked_at()
            reply = await self._reply(letter)
        except OSError as error:
            raise _lost(self.folder, error) from error
        now = time.time()
        return CallRecord(
            number=question.number,
            position=question.position,
            model=INBOX,
            prompt=question.prompt,
            reply=reply,
            latency_s=max(0.0, now - asked_at),
            at=now,
        )

    def put_away(self, number: int) -> None:
        """Clears the inbox of a proposal that is finished. Raises InboxLostError where that is impossible."""
        try:
            for letter in letters(self.folder):
                if letter.number == number:
                    letter.put_away()
        except OSError as error:
            raise _lost(self.folder, error) from error

    def _write(self, letter: Letter, question: Question) -> None:
        """Writes a prompt, unless it is there from before the run was killed."""
        fingerprint = hashlib.sha256(question.prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        if letter.asks(fingerprint):
            self._tell_once(f"Replies are waited for in {self.folder}.")
            return
        self.folder.mkdir(exist_ok=True)
        if letter.prompt.exists():  # the templates or the parents are others now: a reply was not for this
            letter.put_away("outdated-")
        parent = self.parents.get(question.number, "")
        head = f"<!-- parent {parent}, prompt {fingerprint}: put the reply into {letter.reply.name} -->\n\n"
        write_whole(letter.prompt, (head + _readable(question)).encode("utf-8", "replace"))
        self._tell_once(f"Replies are waited for in {self.folder}.")
        if question.complains:
            self.say(f"The reply for proposal {question.number} cannot be used: {letter.prompt} says why.")

    async def _reply(self, letter: Letter) -> str:
        """Waits until a reply is complete: there, and as it was when it was last looked at."""
        before = None
        while not letter.skip.exists():
            state = letter.reply_state()
            if state is not None and state == before:
                try:
                    return _text(letter.reply)
                except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
                    # others wait for replies, too: no reason to end the run
                    self._tell_once(f"{letter.reply} cannot be read ({error.strerror}); it is waited for.")
            before = state
            await self.sleep(POLL_S)
        return SKIPPED

    def _tell_once(self, message: str) -> None:
        if message not in self.told:
            self.told.add(message)
            self.say(message)


class SkippingProposer(LLMProposer):
    """The LLM proposer where a reply may be refused for good: the proposal is then empty, and labelled.

    `answers` are an inbox, or the transcript of a run that had one.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        answers: Answers,
        prompts: Prompts,
        settings: LLM,
        objections: Callable[[str], str],
    ) -> None:
        super().__init__(
            archive,
            answers=answers,
            prompts=prompts,
            models=(BY_HAND,),
            settings=settings,
            objections=objections,
        )

    def reservation(self, request: Request) -> Reservation:
        """Nothing: whoever answers counts no tokens and takes no money."""
        return Reservation()

    def calls(self, number: int, model: Model) -> Calls:
        """The calls of a proposal; asking raises SkippedError where there is to be no reply."""
        return _SkippableCalls(self.archive, self.answers, number, model, self._is_stopped)

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """As the LLM proposer; a skipped proposal has no source, and says so in its detail."""
        try:
            return await super().propose(request, random)
        except SkippedError:
            # without parents: nothing comes from them, and later prompts do not tell of it as their failure
            skipped = Draft(SKIP, (), "", detail="skipped")
            return replace(skipped, more=(skipped,) * (request.drafts - 1))


class InboxProposer(SkippingProposer):
    """Asks whoever answers in the inbox of a run, and asks again with what is wrong with the reply."""

    patient = False  # there may never be a reply: a run that is to end does not wait for drafts under way

    def __init__(
        self,
        archive: Archive,
        *,
        inbox: Inbox,
        prompts: Prompts,
        settings: LLM,
        objections: Callable[[str], str],
    ) -> None:
        super().__init__(archive, answers=inbox, prompts=prompts, settings=settings, objections=objections)
        self.inbox = inbox

    async def propose(self, request: Request, random: "Generator") -> Draft:
        """The draft; its files are put away when the archive has all that was said."""
        self.inbox.parents[request.number] = request.parents[0].hash
        draft = await super().propose(request, random)
        self.inbox.put_away(request.number)
        del self.inbox.parents[request.number]
        return draft


def with_inbox_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run with an inbox, where they say nothing else: who answers is told what is wrong as
    often as the settings allow, and is asked for programs only, not for plans and lessons.
    """
    asking = given.get("llm", {})
    if not isinstance(asking, dict):  # which the settings refuse
        return given
    return given | {"llm": {"tries": TRIES, "operators": OPERATORS, "explain_every": 0} | asking}


def had_inbox(transcript: Archive) -> bool:
    """Whether the replies of a run came from an inbox, be it by the way of a transcript."""
    for number in range(transcript.next_number()):
        if calls := transcript.calls(number):
            return calls[0].model == INBOX
    return False


class _SkippableCalls(Calls):
    """Calls of which some are that there will be no reply."""

    async def ask(
        self, conversation: Conversation, operator: str, sample: int = 0, complains: bool = False
    ) -> CallRecord:
        """The answer. Raises SkippedError for a skipped question; an explanation may be missing."""
        call = await super().ask(conversation, operator, sample, complains)
        if _is_skipped(call) and operator != EXPLAIN:
            raise SkippedError
        return call


def _is_skipped(call: CallRecord) -> bool:
    return call.model == INBOX and call.reply == SKIPPED


def _readable(question: Question) -> str:
    """The prompt; with what is wrong in front, when it is not the first one."""
    *before, last = question.conversation
    if not before:
        return last.text
    return f"{last.text}\n===== the conversation so far =====\n\n{as_text(tuple(before))}\n"


def _text(path: Path) -> str:
    """A reply as the archive keeps it: no longer than that of a model, without what no database holds."""
    with path.open("rb") as file:
        text = file.read(4 * LONGEST_REPLY).decode("utf-8-sig", "replace")
    return text.replace("\0", "\ufffd")[:LONGEST_REPLY]


def _lost(folder: Path, error: OSError) -> InboxLostError:
    return InboxLostError(
        f"The inbox {folder} cannot be used ({error.strerror}). Mend that; `kvolve resume` goes on then."
    )
