"""What policies do to a real model while it decodes: measured in fresh processes, beside dense attention."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from database.reader import Reader
from evaluators.models import DEFAULT_MODEL
from evaluators.problem import Problem
from evolve.finals import read_finals
from evolve.statistics import Difference, mean_interval
from kvolve import KvolveError
from sandbox.pool import LocalPool
from sandbox.task import Limits, Outcome, TaskRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

JUDGES = {"token_selection": "evaluators.token_selection.effect:open_judge"}
CONTEXTS = 8  # of a split among the shipped texts
WALL_S, CPU_S = 3_600.0, 3_600  # of one context: a model decodes between the turns of a policy


@dataclass(frozen=True)
class Subject:
    """A policy that is measured: its name and source."""

    name: str
    source: str


@dataclass(frozen=True)
class Setup:
    """The contexts over which policies are measured."""

    model: str = DEFAULT_MODEL
    split: str = "validation"
    contexts: int = CONTEXTS
    prefill: int = 2048
    steps: int = 32
    texts: tuple[Path, ...] = ()
    workers: int = 2


@dataclass(frozen=True)
class Effect:
    """What one policy did at one budget, over contexts; differences are to dense attention."""

    budget: float
    traffic: float
    kl: Difference  # divergence of the next token's distribution from the dense one, in nats
    nll: Difference  # increase of the negative log-likelihood of the text's own next token, in nats
    same_first: float  # share of steps with the same most likely token


def subjects_of_run(archive: Reader, candidate: str | None) -> tuple[Subject, ...]:
    """A candidate of a run, by default its champion, and the best seed.

    Raises KvolveError where there is no such candidate.
    """
    finals = read_finals(archive)
    if candidate is None and finals is None:
        raise KvolveError("The run has no champion yet. Finish it with `kvolve resume`, or name a candidate.")
    if candidate is None:
        assert finals is not None
        candidate = finals.champion.hash
    found = archive.candidate(candidate)
    subjects = [Subject(found.hash[:12], found.source)]
    rivals = finals.rivals() if finals else ()
    subjects += [Subject(one.name, archive.candidate(one.hash).source) for one in rivals[:1]]
    return tuple({subject.source: subject for subject in subjects}.values())


def subjects_of_problem(problem: Problem, seed: str | None) -> tuple[Subject, ...]:
    """One seed of a problem, or all of them. Raises KvolveError where there is no such seed."""
    seeds = {one.name: one for one in problem.seeds()}
    if seed is not None and seed not in seeds:
        raise KvolveError(f"{problem.name} has no seed {seed!r}. Known seeds: {', '.join(seeds)}.")
    return tuple(Subject(name, one.source) for name, one in seeds.items() if seed in (None, name))


def depths_of(recording: str) -> tuple[float, ...]:
    """The depths (0 to 1) of the layers of a recording, as settings name it.

    Raises KvolveError where it cannot be read.
    """
    from evaluators.record_model import FULL_DEPTHS
    from evaluators.recording import SMALL_RECORDING, Recording

    if recording == "full":
        return FULL_DEPTHS
    made = Recording.open(SMALL_RECORDING if recording == "small" else Path(recording), splits=()).manifest
    return tuple(layer / made.num_layers for layer in made.layers)


def task_of(problem: Problem, depths: tuple[float, ...], setup: Setup) -> TaskRef:
    """What a sandbox is told; `depths` are those of the layers that the policies were made for.

    Raises KvolveError for a problem whose policies run in no model.
    """
    if problem.name not in JUDGES:
        raise KvolveError(
            f"Policies of {problem.name} do not run inside a language model; those of {', '.join(JUDGES)} do."
        )
    arguments = {
        "model": setup.model,
        "depths": ",".join(map(str, depths)),
        "prefill": str(setup.prefill),
        "steps": str(setup.steps),
        "texts": "\n".join(str(path.resolve()) for path in setup.texts),
    }
    return TaskRef(problem.actor, JUDGES[problem.name], arguments, (setup.split,))


async def measure(
    task: TaskRef, subjects: Sequence[Subject], setup: Setup, progress: Callable[[int, int], None]
) -> dict[str, list[Effect]]:
    """The effects of each policy, budget by budget; `progress` is told contexts done and contexts in all.

    Raises KvolveError for a policy that fails, and for contexts that the split does not have.
    """
    jobs = [(one, context) for context in range(setup.contexts) for one in subjects]
    pool = LocalPool(task, min(setup.workers, len(jobs)), Limits(WALL_S, CPU_S))
    done = 0

    async def one_context(subject: Subject, context: int) -> dict[str, Any]:
        nonlocal done
        outcome = await pool.submit(subject.source, setup.split, context)
        done += 1
        progress(done, len(jobs))
        return _value(subject, outcome)

    try:
        await pool.start()
        values = await asyncio.gather(*(one_context(*job) for job in jobs))
    finally:
        await pool.close()
    found: dict[str, list[dict[str, Any]]] = {one.name: [] for one in subjects}
    for (one, _), value in zip(jobs, values, strict=True):
        found[one.name].append(value)
    return {name: effects(values) for name, values in found.items()}


def _value(subject: Subject, outcome: Outcome) -> dict[str, Any]:
    if outcome.value is None:
        raise KvolveError(f"{subject.name} fails inside the model ({outcome.failure}): {outcome.message}")
    return outcome.value


def effects(contexts: Sequence[Mapping[str, Any]]) -> list[Effect]:
    """What the contexts of one policy come to, budget by budget."""

    def of(name: str) -> "NDArray[np.float64]":
        return np.array([context[name] for context in contexts], np.float64)

    kl, nll, same_first, traffic = of("kl"), of("nll"), of("same_first"), of("traffic")
    more = nll - of("dense_nll")[:, None]  # [C, B, S]
    return [
        Effect(
            budget=budget,
            traffic=float(traffic[:, place].mean()),
            kl=mean_interval(kl[:, place].mean(1)),
            nll=mean_interval(more[:, place].mean(1)),
            same_first=float(same_first[:, place].mean()),
        )
        for place, budget in enumerate(contexts[0]["budgets"])
    ]


def effects_as_json(setup: Setup, found: Mapping[str, Sequence[Effect]]) -> dict[str, Any]:
    """Everything that a program may ask for."""
    return {
        "model": setup.model,
        "split": setup.split,
        "contexts": setup.contexts,
        "prefill": setup.prefill,
        "steps": setup.steps,
        "policies": {name: [_as_json(effect) for effect in of_one] for name, of_one in found.items()},
    }


def _as_json(effect: Effect) -> dict[str, Any]:
    def with_interval(of: Difference) -> dict[str, Any]:
        return {"value": of.value, "interval": None if math.isinf(of.low) else [of.low, of.high]}

    return asdict(effect) | {"kl": with_interval(effect.kl), "nll": with_interval(effect.nll)}


def show_effects(console: Console, setup: Setup, found: Mapping[str, Sequence[Effect]]) -> None:
    """One row for each policy and budget."""
    title = (
        f"{setup.model}, {setup.split}: {setup.contexts} x {setup.prefill:,} tokens, "
        f"{setup.steps} decode steps each, against dense attention"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("policy", no_wrap=True)
    for column in ("budget", "traffic", "KL", "95% interval", "NLL", "95% interval", "same first"):
        table.add_column(column, justify="right")
    for name, of_one in found.items():
        for effect in of_one:
            table.add_row(
                name,
                f"{effect.budget:.1%}",
                f"{effect.traffic:.2%}",
                f"{effect.kl.value:.4f}",
                _interval(effect.kl),
                f"{effect.nll.value:+.4f}",
                _interval(effect.nll),
                f"{effect.same_first:.1%}",
            )
    console.print(table)


def _interval(of: Difference) -> str:
    return "" if math.isinf(of.low) else str(of)
