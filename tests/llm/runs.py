"""Whole runs of the real loop: a real server or a transcript proposes, arithmetic evaluates."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from database.archive import Archive
from database.connection import archive_url
from evolve.cascade import Cascade
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.settings import LLM
from evolve.loop import Loop
from evolve.run import create_archive
from evolve.settings import make_settings
from sandbox.screen import screen
from tests.evolve.arithmetic import INPUTS, PROBLEM, ArithmeticPool, Pace
from tests.llm.server import Behaviour, Exchange, says

ASKING = LLM.model_validate({"operators": {"rewrite": 2, "diff": 1, "crossover": 1, "repair": 2}, "tries": 1})
ODD_REPLIES = ("No.", "", "```python\nclass Policy:\n    x =\n```", "```python\ndef policy():\n    pass\n```")


class Run:
    """A run in a folder, worked on in stretches as `resume` does it."""

    def __init__(self, folder: Path, evaluations: int) -> None:
        self.folder = folder
        self.settings = make_settings(
            {"problem": PROBLEM.name, "seed": 3, "max_evaluations": evaluations, "look_ahead": 4}
        )

    @property
    def archive(self) -> Archive:
        return Archive.open(archive_url(self.folder / "archive.db"), read_only=True)

    def work(
        self, made: Callable[[Archive], LLMProposer], killed_when: Callable[[], object] | None = None
    ) -> None:
        """Works to the end, or until `killed_when`, called in a thread of its own, returns."""
        self.folder.mkdir(exist_ok=True)
        new = not (self.folder / "archive.db").exists()
        archive = (
            create_archive(self.settings, PROBLEM, INPUTS, self.folder)
            if new
            else Archive.open(archive_url(self.folder / "archive.db"))
        )
        try:
            asyncio.run(self._work(archive, made(archive), killed_when))
        finally:
            archive.close()

    async def _work(
        self, archive: Archive, proposer: LLMProposer, killed_when: Callable[[], object] | None
    ) -> None:
        cascade = Cascade(PROBLEM, INPUTS, archive, ArithmeticPool(Pace(1, 20)))
        loop = Loop(self.settings, cascade, archive, proposer, lambda *_: None)
        running = asyncio.create_task(loop.run())
        try:
            if killed_when is None:
                await running
            else:
                await asyncio.to_thread(killed_when)
                running.cancel()
                await asyncio.wait([running])
        finally:
            await proposer.close()


def asked(model, transport) -> Callable[[Archive], LLMProposer]:
    """Proposers that ask a server."""
    models = (model(concurrency=4),)
    return lambda archive: LLMProposer(archive, answers=transport(*models), models=models, **common())


def common() -> dict[str, object]:
    """What a run and its repetition have in common."""
    return {
        "prompts": Prompts(PROBLEM.interface),
        "settings": ASKING,
        "objections": lambda source: "\n".join(map(str, screen(source, PROBLEM.language))),
    }


def inventive(odd_every: int = 10) -> Behaviour:
    """A model whose reply follows from the prompt; about every `odd_every`-th one is of no use."""

    def behaviour(exchange: Exchange) -> None:
        asked = "".join(message["content"] for message in exchange.body["messages"])
        drawn = int(hashlib.sha256(asked.encode()).hexdigest(), 16)
        text = ODD_REPLIES[drawn // odd_every % len(ODD_REPLIES)]
        if drawn % odd_every:
            text = f"I try it.\n```python\nclass Policy:\n    share = {drawn % 10_000}\n```\n"
        says(text)(exchange)

    return behaviour
