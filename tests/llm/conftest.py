"""A server, a clock that does not wait, an archive, and proposers that use them."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from database.archive import Archive
from database.connection import archive_url
from database.records import Axis, RunRecord
from evolve.llm.conversation import Message
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.reply import Reply
from evolve.llm.settings import LLM, Model
from evolve.llm.transport import Transport
from evolve.proposer import Draft, Parent, Request
from evolve.streams import stream
from tests.llm.server import Server

KEY = "sk-secret-0123456789"
INTERFACE = "Write `class Policy`.\n\n```python\nclass Policy:\n    def act(self): ...\n```\n"
PARENT = Parent(
    "a" * 64, "import math\n\n\nclass Policy:\n    def act(self):\n        return 1\n", 1.25, "Too slow."
)
OTHER = Parent("b" * 64, "class Policy:\n    def act(self):\n        return 7\n", 0.5, "Too hot.")
BETTER = "class Policy:\n    def act(self):\n        return 2\n"

USUAL: dict[str, object] = {}
ASKED = (Message("user", "Improve this."),)


class Time:
    """Time that passes at once: what was waited for is noted, the clock goes on by as much."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def said() -> list[str]:
    """What the user was told."""
    return []


@pytest.fixture
def model(server: Server) -> Callable[..., Model]:
    def model(**given: object) -> Model:
        usual = {"model": "stub", "base_url": server.url, "api_key_env": "A_KEY", "timeout_s": 20}
        return Model.model_validate(usual | {"price_in": 1.0, "price_out": 10.0} | given)

    return model


@pytest.fixture
def transport(time: Time, said: list[str]) -> Callable[..., Transport]:
    def transport(*models: Model, give_up_s: float = 1800) -> Transport:
        return Transport(
            models,
            said.append,
            give_up_s=give_up_s,
            environment={"A_KEY": KEY},
            sleep=time.sleep,
            clock=time.clock,
        )

    return transport


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = new_archive(tmp_path / "archive.db")
    yield archive
    archive.close()


def new_archive(path: Path) -> Archive:
    run = RunRecord("token_selection", "{}", 7, (Axis("share", 0.0, 1.0, 4),), 1, 0, "0.1.0")
    return Archive.create(archive_url(path), run)


@pytest.fixture
def proposer(archive: Archive, model, transport) -> Callable[..., LLMProposer]:
    """A proposer of one operator, by default `rewrite`."""

    def proposer(
        operator: str = "rewrite",
        tries: int = 2,
        asking: dict[str, object] = USUAL,
        interface: str = INTERFACE,
        **given: object,
    ) -> LLMProposer:
        models = (model(**given),)
        return LLMProposer(
            archive,
            answers=transport(*models),
            prompts=Prompts(interface),
            models=models,
            settings=LLM.model_validate(
                {"operators": {"rewrite": 1e-12, operator: 1}, "choice": "weights", "tries": tries} | asking
            ),
            objections=lambda source: "line 1: print is not allowed" if "print" in source else "",
        )

    return proposer


def propose(proposer: LLMProposer, number: int = 3, parents: tuple[Parent, ...] = (PARENT, OTHER)) -> Draft:
    """One draft, connections closed."""

    async def work() -> Draft:
        try:
            return await proposer.propose(Request(number, parents), stream(0, number, "proposal"))
        finally:
            await proposer.close()

    return asyncio.run(work())


def ask(transport: Transport, model, calls: int = 1) -> list[Reply]:
    """The replies to some calls at a time."""

    async def work() -> list[Reply]:
        try:
            return await asyncio.gather(*(transport.ask(model, ASKED) for _ in range(calls)))
        finally:
            await transport.close()

    return asyncio.run(work())
