"""`kvolve verify`: what a discovery does to a real model."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from evaluators.models import DEFAULT_MODEL
from evaluators.problem import PROBLEMS, get_problem
from kvolve import KvolveError


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN|PROBLEM", help="A run, or a problem for its seeds.")],
    candidate: Annotated[
        str | None, typer.Argument(metavar="[CANDIDATE|SEED]", help="First digits of a hash, or a seed.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="ID|FOLDER|FILE.gguf", help="Any causal language model.")
    ] = DEFAULT_MODEL,
    split: Annotated[str, typer.Option(help="Whose texts: search, validation or holdout.")] = "validation",
    contexts: Annotated[
        int | None, typer.Option(help="How many of them; by default 8, or one of each --text.", min=1)
    ] = None,
    prefill: Annotated[
        int, typer.Option(help="Tokens that are cached before the first step.", min=16)
    ] = 2048,
    steps: Annotated[int, typer.Option(help="Decode steps.", min=1)] = 32,
    text: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Texts of your own; give it several times.")
    ] = None,
    tasks: Annotated[
        int, typer.Option(help="Of each kind: pass key, needles, variables, frequent words.", min=0)
    ] = 0,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Runs a policy inside a language model and compares its decode steps with those of dense attention.

    A run's candidate (by default its champion) is measured beside the run's best seed.

    Example: kvolve verify runs/token_selection-001 --contexts 4
    """
    from evaluators.corpus import SPLITS
    from evolve import verify as views
    from evolve.problems import problem_of_run
    from evolve.settings import make_settings
    from evolve.view import make_console
    from evolve.workspace import open_run

    if split not in SPLITS:
        raise KvolveError(f"There is no split {split!r}. Known splits: {', '.join(SPLITS)}.")
    depths = views.depths_of("full")
    if run in PROBLEMS:
        problem = get_problem(run)
        subjects = views.subjects_of_problem(problem, candidate)
    else:
        _, archive = open_run(run)
        problem = problem_of_run(archive)
        subjects = views.subjects_of_run(archive, candidate)
        stored = json.loads(archive.run.settings_json)
        depths = views.depths_of(make_settings(stored["settings"]).recording, stored["splits"]["validation"])
    chosen = contexts or (len(text) if text else views.CONTEXTS)
    seed, texts = views.seed_of(split), tuple(text or ())
    setup = views.Setup(model, split, chosen, prefill, steps, texts, tasks, seed, workers)
    task = views.task_of(problem, depths, setup)
    found = asyncio.run(views.measure(task, subjects, setup, _progress))
    if as_json:
        print(json.dumps(views.found_as_json(setup, found), indent=1))
    else:
        views.show_found(make_console(), setup, found)


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total or not sys.stderr.isatty() else "\r"
    print(f"{done} of {total} contexts", end=end, file=sys.stderr, flush=True)
