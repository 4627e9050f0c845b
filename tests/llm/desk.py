"""The desk of somebody who answers the prompts of an inbox."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from database.archive import Archive
from evolve.inbox import (
    ANSWERED,
    Inbox,
    InboxProposer,
    Letter,
    SkippingProposer,
    letters,
)
from evolve.llm.prompt import Prompts
from evolve.llm.settings import LLM
from evolve.proposer import Draft, Request
from evolve.streams import stream
from tests.llm.conftest import BETTER, INTERFACE, OTHER, PARENT

FENCED = f"I return 2.\n```python\n{BETTER}```"
ASKING = LLM.model_validate({"operators": {"rewrite": 1}, "tries": 10})

Work = Callable[[], Awaitable[None]]


class Desk:
    """A proposer with an inbox in a folder, and somebody who answers."""

    def __init__(self, archive: Archive, folder: Path) -> None:
        self.archive = archive
        self.folder = folder
        self.said: list[str] = []

    def proposer(self, interface: str = INTERFACE) -> InboxProposer:
        return InboxProposer(
            self.archive,
            inbox=Inbox(self.folder, self.said.append, sleep=lambda _: asyncio.sleep(0)),
            prompts=Prompts(interface),
            settings=ASKING,
            objections=lambda source: "print is not allowed" if "print" in source else "",
        )

    def letter(self, number: int = 3, position: int = 0) -> Letter:
        return Letter(number, position, self.folder)

    def open(self) -> list[tuple[int, int]]:
        return [(letter.number, letter.position) for letter in letters(self.folder) if letter.is_open()]

    def put_away(self) -> set[str]:
        return {path.name for path in (self.folder / ANSWERED).iterdir()}

    async def asked(self, number: int = 3, position: int = 0) -> None:
        """Waits until there is a prompt."""
        async with asyncio.timeout(20):
            while (number, position) not in self.open():
                await asyncio.sleep(0)

    def proposal(self, work: Work, number: int = 3, interface: str = INTERFACE) -> Draft:
        """The draft of a proposal while somebody does `work`."""

        async def both() -> Draft:
            draft, _ = await asyncio.gather(begin(self.proposer(interface), number), work())
            return draft

        return asyncio.run(both())

    def killed(self, work: Work) -> None:
        """A proposal that is under way while somebody does `work`, and is then cancelled."""

        async def both() -> None:
            task = asyncio.create_task(begin(self.proposer()))
            await work()
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(both())

    def answers(self, *replies: str) -> Work:
        """Somebody who waits for each prompt, then answers it."""

        async def work() -> None:
            for position, reply in enumerate(replies):
                await self.asked(position=position)
                self.letter(position=position).reply.write_text(reply, encoding="utf-8")

        return work


async def begin(proposer: SkippingProposer, number: int = 3) -> Draft:
    return await proposer.propose(Request(number, (PARENT, OTHER)), stream(0, number, "proposal"))
