"""Whole runs of the real loop: a real server or a transcript proposes, arithmetic evaluates."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from database.archive import Archive
from database.connection import archive_url
from evolve.cascade import Cascade
from evolve.llm.prompt import Prompts
from evolve.llm.proposer import LLMProposer
from evolve.llm.settings import LLM
from evolve.loop import Loop
from evolve.proposers import objections_of
from evolve.run import create_archive
from evolve.settings import make_settings
from tests.evolve.arithmetic import INPUTS, NAMES, PROBLEM, ArithmeticPool, Pace
from tests.llm.server import Behaviour, Exchange, says

OPERATORS = {"rewrite": 2, "diff": 1, "crossover": 1, "plan": 1, "repair": 2, "simplify": 1}
ASKING = LLM.model_validate({"operators": OPERATORS, "tries": 1, "explain_every": 10})
ODD_REPLIES = ("No.", "", "```python\nclass Policy:\n    x =\n```", "```python\ndef policy():\n    pass\n```")
PADDING = "# what a shorter program has not\n" * 40


class Run:
    """A run in a folder, worked on in stretches as `resume` does it."""

    def __init__(self, folder: Path, evaluations: int) -> None:
        self.folder = folder
        self.limit(evaluations)

    def limit(self, evaluations: int) -> None:
        """Sets how many proposals there may be in all."""
        given = {"problem": PROBLEM.name, "start_with": NAMES, "seed": 3, "look_ahead": 4}
        self.settings = make_settings(given | {"max_evaluations": evaluations})

    @property
    def archive(self) -> Archive:
        return Archive.open(archive_url(self.folder / "archive.db"), read_only=True)

    def work(
        self,
        made: Callable[[Archive], LLMProposer],
        killed_when: Callable[[], object] | None = None,
        stopped_when: Callable[[], object] | None = None,
    ) -> None:
        """Works to the end, or until `killed_when` or `stopped_when`, called in a thread, returns."""
        self.folder.mkdir(exist_ok=True)
        new = not (self.folder / "archive.db").exists()
        archive = (
            create_archive(self.settings, PROBLEM, INPUTS, self.folder)
            if new
            else Archive.open(archive_url(self.folder / "archive.db"))
        )
        try:
            asyncio.run(self._work(archive, made(archive), killed_when, stopped_when))
        finally:
            archive.close()

    async def _work(
        self,
        archive: Archive,
        proposer: LLMProposer,
        killed_when: Callable[[], object] | None,
        stopped_when: Callable[[], object] | None,
    ) -> None:
        cascade = Cascade(PROBLEM, INPUTS, archive, ArithmeticPool(Pace(1, 20)))
        loop = Loop(self.settings, cascade, archive, proposer, lambda *_: None)
        running = asyncio.create_task(loop.run())
        try:
            if killed_when is not None:
                await asyncio.to_thread(killed_when)
                running.cancel()
                await asyncio.wait([running])
                return
            if stopped_when is not None:
                await asyncio.to_thread(stopped_when)
                loop.stop()
            await running
        finally:
            await proposer.close()


def asked(model, transport, settings: LLM = ASKING) -> Callable[[Archive], LLMProposer]:
    """Proposers that ask a server."""
    models = (model(concurrency=4), model(name="other"))
    given = common() | {"settings": settings}
    return lambda archive: LLMProposer(archive, answers=transport(*models), models=models, **given)


def common() -> dict[str, object]:
    """What a run and its repetition have in common."""
    return {
        "prompts": Prompts(PROBLEM.interface),
        "settings": ASKING,
        "objections": partial(objections_of, language=PROBLEM.language),
    }


def inventive(odd_every: int = 10, reasoning: int = 0) -> Behaviour:
    """A model whose reply follows from the prompt; about every `odd_every`-th one is of no use. The same
    prompt, asked again with a temperature, has another reply.
    """
    times: Counter[str] = Counter()

    def behaviour(exchange: Exchange) -> None:
        asked = "".join(message["content"] for message in exchange.body["messages"])
        times[asked] += 1
        key = f"{times[asked]} {asked}" if exchange.body.get("temperature") else asked
        drawn = int(hashlib.sha256(key.encode()).hexdigest(), 16)
        text = ODD_REPLIES[drawn // odd_every % len(ODD_REPLIES)]
        if drawn % odd_every:
            text = _answer(exchange.body["messages"][-1]["content"], drawn % 10_000)
        usage = {"prompt_tokens": 100, "completion_tokens": 20 + drawn % 7, "total_tokens": 120 + drawn % 7}
        says(text, usage=usage, reasoning="Wait, " * (drawn % (reasoning + 1)))(exchange)

    return behaviour


def _answer(prompt: str, drawn: int) -> str:
    """What a model says that does as it is told."""
    if "Write no code yet" in prompt:
        return "".join(f"{n}. Idea {n} of {drawn}: read {'abcd'[n - 1] * 5} tokens.\n" for n in range(1, 5))
    if "at most four lessons" in prompt:
        return f"- Shares near {drawn} do well.\n- Others do not.\n"
    program = f"class Policy:\n    share = {drawn}\n"
    if "## The program to simplify" in prompt:
        program = prompt.partition("## The program to simplify")[2].partition("```python\n")[2]
        program = program.partition("```")[0].replace(PADDING, "")
    elif drawn % 2:
        program = PADDING + program
    return f"I try it.\n```python\n{program}```\n"
