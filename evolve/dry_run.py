"""What a run with a model would ask first, and what it may take: no model is asked, and nothing is kept."""

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from evolve.cascade import Cascade
from evolve.llm.choosing import Choice
from evolve.llm.proposer import LLMProposer
from evolve.llm.reply import CHARACTERS_PER_TOKEN
from evolve.loop import Loop
from evolve.problems import problem_of, seeds_of_run
from evolve.proposer import Request
from evolve.proposers import make_proposer, models_of
from evolve.run import create_archive, inputs_of, open_pool, tried_out
from evolve.settings import Settings
from evolve.view import View
from kvolve import KvolveError

SHOWN = 3
WORDS = 200  # tokens of a reply beside its program


@dataclass(frozen=True)
class Estimate:
    """What a request takes: tokens in and out, and dollars."""

    tokens_in: float
    tokens_out: float
    usd: float


def show_first_prompts(settings: Settings, view: View) -> None:
    """Prints the first prompts of a run and an estimate of its cost, after its seeds are evaluated.

    Raises KvolveError for a run that asks no model.
    """
    if settings.proposer != "llm":
        raise KvolveError(
            f"A dry run shows what a model would be asked, but the proposer is {settings.proposer!r}. "
            "Add --proposer llm, or leave --dry-run out."
        )
    models_of(settings)
    with TemporaryDirectory() as folder:
        asyncio.run(_show(settings, view, Path(folder)))


async def _show(settings: Settings, view: View, folder: Path) -> None:
    settings = tried_out(settings, view.say)
    problem = problem_of(settings)
    inputs = inputs_of(problem, settings, view)
    seeds = len(seeds_of_run(problem, settings))
    archive = create_archive(settings, problem, inputs, folder)
    try:
        asking = settings.llm.model_copy(update={"polish": 0.0})  # that needs no prompt
        settings = settings.model_copy(update={"llm": asking})
        proposer = make_proposer(settings, problem, archive, folder, view.say)
        assert isinstance(proposer, LLMProposer)
        pool = await open_pool(settings, problem, inputs)
        try:
            view.say(f"Evaluating the {seeds} seeds and bounds, which prompts are made of.")
            only_seeds = settings.model_copy(update={"max_evaluations": min(seeds, settings.max_evaluations)})
            cascade = Cascade(problem, inputs, archive, pool)
            loop = Loop(only_seeds, cascade, archive, proposer, lambda *_: None)
            await loop.run()
        finally:
            await pool.close()
            await proposer.close()
        requests = [request for _, request in sorted(loop.requests.items()) if request.choice]
        left = settings.max_evaluations - seeds
        if left <= 0 or not requests:
            view.say(f"All {settings.max_evaluations} evaluations are seeds and bounds: no model is asked.")
            return
        for request in requests[:SHOWN]:
            choice = Choice.read(request.choice)
            view.say(f"\n===== proposal {request.number}: {choice.operator}, {choice.model} =====\n")
            print(proposer.first_prompt(request))
        view.say(_estimate(settings, proposer, requests, left))
    finally:
        archive.close()


def _estimate(settings: Settings, proposer: LLMProposer, requests: list[Request], left: int) -> str:
    """What `left` proposals may take, if they are like the first ones."""
    times = math.ceil(left / fmean(request.drafts for request in requests))
    usual = [_usual(proposer, request) for request in requests]
    tokens_in = times * fmean(one.tokens_in for one in usual)
    tokens_out = times * fmean(one.tokens_out for one in usual)
    most = [proposer.reservation(request) for request in requests]
    limit = times * fmean(one.tokens for one in most)
    priced = all(model.is_priced for model in proposer.models.values())
    usd, limit_usd = "", ""
    if priced:
        usd = f" ({times * fmean(one.usd for one in usual):.2f} USD)"
        limit_usd = f" ({times * fmean(one.usd for one in most):.2f} USD)"
    lines = [
        f"\nAn estimate for {left} proposals, made from the first {len(requests)} requests:",
        f"about {tokens_in:,.0f} tokens in and {tokens_out:,.0f} out{usd}, if every reply is as long as its",
        "parent and none is sent back; reasoning comes on top of it. With every reply as long as it may be,",
        f"and sent back as often as it may be: {limit:,.0f} tokens{limit_usd}.",
    ]
    if not priced:
        lines.append("Prices are not known; price_in and price_out under [[models]] give the cost in USD.")
    limits = {"max_tokens": settings.max_tokens, "max_cost": settings.max_cost}
    if given := [f"{name} = {limit:g}" for name, limit in limits.items() if limit is not None]:
        lines.append(f"The run ends before it takes more than {' and '.join(given)}.")
    return "\n".join(lines)


def _usual(proposer: LLMProposer, request: Request) -> Estimate:
    """What a request takes when its replies are as long as the parent."""
    choice = Choice.read(request.choice)
    replies = max(request.drafts, proposer.settings.k) + (choice.operator == "plan") + choice.explains
    program = len(request.parents[0].source) / CHARACTERS_PER_TOKEN + WORDS
    tokens_in = replies * len(proposer.first_prompt(request)) / CHARACTERS_PER_TOKEN
    usd = proposer.models[choice.model].cost_usd(round(tokens_in), round(replies * program))
    return Estimate(tokens_in, replies * program, usd)
