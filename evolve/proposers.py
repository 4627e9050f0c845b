"""The proposers by name, as `--proposer` gives them."""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from database.archive import Archive
from evaluators.problem import Language, Problem
from evolve.llm.settings import LLM, Model, choose_models
from evolve.proposer import Proposer
from evolve.settings import REPLAY, Settings, make_settings
from evolve.workspace import open_run
from kvolve import KvolveError
from sandbox.screen import screen

if TYPE_CHECKING:
    from evolve.llm.proposer import LLMProposer

MOST_OBJECTIONS = 5  # of the screen, in what is said to a model


def with_proposer_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of a new run with what its proposer takes for granted: for a repetition, all those of the
    recorded run that are not given.

    Raises KvolveError when there is no such run, or when it is of another problem.
    """
    name = str(given.get("proposer", ""))
    if name == "inbox":
        from evolve.inbox import with_inbox_defaults

        return with_inbox_defaults(given)
    if not name.startswith(REPLAY):
        return given
    directory, transcript = open_run(name.removeprefix(REPLAY))
    transcript.close()
    if given.get("problem", transcript.run.problem) != transcript.run.problem:
        raise KvolveError(
            f"{directory} is a run of {transcript.run.problem}, which cannot be repeated on "
            f"{given['problem']}. Give its problem."
        )
    return recorded_settings(transcript) | given


def recorded_settings(transcript: Archive) -> dict[str, Any]:
    """The settings of a run, as its archive has them."""
    settings: dict[str, Any] = json.loads(transcript.run.settings_json)["settings"]
    return settings


def models_of(settings: Settings) -> tuple[Model, ...]:
    """The models that are asked for proposals.

    Raises KvolveError when none is given, when a key is missing, or when costs are limited but not known.
    """
    if settings.proposer != "llm":
        return ()
    models = choose_models(settings.models, os.environ)
    if settings.max_cost is not None and (free := [model.name for model in models if not model.is_priced]):
        raise KvolveError(
            f"max_cost is {settings.max_cost:g}, but the price of {', '.join(free)} is not known. Give it as "
            "price_in and price_out under [[models]] in a preset, or limit max_tokens instead."
        )
    return models


def objections_of(source: str, language: Language) -> str:
    """What the screen has against a source, a line for each construct; "" if nothing."""
    # of one construct, the first line says it all: others are not to be hidden behind it
    first = {refusal.construct: str(refusal) for refusal in reversed(screen(source, language))}
    return "\n".join(list(reversed(first.values()))[:MOST_OBJECTIONS])


def asking(settings: Settings) -> LLM:
    """How models are asked. Baselines are not told of the elites: they would no longer be baselines."""
    silent = settings.strategy != "map_elites"
    return settings.llm.model_copy(update={"explain_every": 0, "polish": 0.0}) if silent else settings.llm


def polishing(archive: Archive, proposer: "LLMProposer", settings: LLM) -> Proposer:
    """The proposer, with the built-in tuner beside it if the settings want that."""
    from evolve.polish import PolishingProposer

    return PolishingProposer(archive, proposer, settings.polish) if settings.polish else proposer


def make_proposer(
    settings: Settings, problem: Problem, archive: Archive, directory: Path, say: Callable[[str], None]
) -> Proposer:
    """The proposer that the settings ask for. `say` tells the user what happens to it."""

    objections = partial(objections_of, language=problem.language)
    if settings.proposer == "builtin":
        from evolve.builtin import BuiltinProposer
        from evolve.builtin.drafting import Drafting

        drafting = Drafting(
            lambda source: not screen(source, problem.language), packages=settings.allow_packages
        )
        return BuiltinProposer(
            archive,
            drafting,
            adapts=settings.strategy != "best_of_n",
            surveys=settings.strategy == "map_elites",
        )
    from evolve.inbox import INBOX, Inbox, InboxProposer
    from evolve.llm.prompt import Prompts
    from evolve.llm.proposer import LLMProposer
    from evolve.llm.transport import Transport

    if settings.proposer == "llm":
        models = models_of(settings)
        proposer = LLMProposer(
            archive,
            answers=Transport(models, say, give_up_s=settings.llm.give_up_s),
            prompts=Prompts(problem.interface, directory / "templates"),
            models=models,
            settings=asking(settings),
            objections=objections,
        )
        return polishing(archive, proposer, asking(settings))
    if settings.proposer == "inbox":
        return InboxProposer(
            archive,
            inbox=Inbox(directory / INBOX, say),
            prompts=Prompts(problem.interface, directory / "templates"),
            settings=asking(settings),
            objections=objections,
        )
    return _repeating(settings.proposer.removeprefix(REPLAY), problem, archive, objections)


def _repeating(run: str, problem: Problem, archive: Archive, objections: Callable[[str], str]) -> Proposer:
    """The proposer that answers from the transcript of a run."""
    from evolve.inbox import SkippingProposer, had_inbox
    from evolve.llm.prompt import Prompts
    from evolve.llm.replay import Recorded, ReplayProposer

    there, transcript = open_run(run)
    recorded = make_settings(recorded_settings(transcript))
    prompts = Prompts(problem.interface, there / "templates")
    if had_inbox(transcript):
        return SkippingProposer(
            archive,
            answers=Recorded(transcript),
            prompts=prompts,
            settings=asking(recorded),
            objections=objections,
        )
    proposer = ReplayProposer(
        transcript,
        archive,
        prompts=prompts,
        models=recorded.models,
        settings=asking(recorded),
        objections=objections,
    )
    return polishing(archive, proposer, asking(recorded))
