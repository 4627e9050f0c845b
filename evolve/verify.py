"""What policies do to a real model while it decodes: measured in fresh processes, beside dense attention."""

import asyncio
import math
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from database.reader import Reader
from evaluators.problem import PROBLEMS, Problem, get_problem
from evaluators.tasks import KINDS, TASKS
from evolve.finals import read_finals
from evolve.statistics import Difference, mean_interval
from kvolve import KvolveError
from sandbox.pool import LocalPool
from sandbox.task import Limits, Outcome, TaskRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEEDS = {"search": 1, "validation": 2}
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

    model: str
    split: str
    contexts: int
    prefill: int
    steps: int
    texts: tuple[Path, ...]
    tasks: int  # of each kind
    seed: int  # of the tasks
    workers: int


@dataclass(frozen=True)
class Effect:
    """What one policy did at one budget, over contexts; differences are to dense attention."""

    budget: float
    traffic: float
    kl: Difference  # divergence of the next token's distribution from the dense one, in nats
    nll: Difference  # increase of the negative log-likelihood of the text's own next token, in nats
    same_first: float  # share of steps with the same most likely token


@dataclass(frozen=True)
class Answered:
    """How one policy answered the tasks of one kind at one budget, and how dense attention did."""

    kind: str
    budget: float
    traffic: float
    right: float  # share of tasks with each token of the answer the most likely one
    dense_right: float
    nll: Difference  # increase of the negative log-likelihood per token of the answer, in nats


@dataclass(frozen=True)
class Found:
    """What was found of one policy."""

    effects: list[Effect]
    answered: list[Answered]


def seed_of(split: str) -> int:
    """The seed of the tasks: fixed but for the holdout, where nobody can know it before."""
    return secrets.randbits(32) if split == "holdout" else SEEDS[split]


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


def depths_of(recording: str, split: str = "") -> tuple[float, ...]:
    """The depths (0 to 1) of the layers of a recording, as settings name it; `split` is the version of one of
    the run's own splits: a run for which the full one could not be made went on with the small one.

    Raises KvolveError where it cannot be read.
    """
    from evaluators.record_model import FULL_DEPTHS
    from evaluators.recording import SMALL_RECORDING, Recording

    small = Recording.open(SMALL_RECORDING, splits=())
    if recording == "full" and not split.endswith(small.hash[:16]):
        return FULL_DEPTHS
    opened = small if recording in ("full", "small") else Recording.open(Path(recording), splits=())
    return tuple(layer / opened.manifest.num_layers for layer in opened.manifest.layers)


def task_of(problem: Problem, depths: tuple[float, ...], setup: Setup) -> TaskRef:
    """What a sandbox is told; `depths` are those of the layers that the policies were made for.

    Raises KvolveError for a problem whose policies run in no model.
    """
    if not problem.effect:
        able = [name for name in PROBLEMS if get_problem(name).effect]
        raise KvolveError(
            f"Programs of {problem.name} do not run inside a language model; those of {', '.join(able)} do."
        )
    arguments = {
        "model": setup.model,
        "depths": ",".join(map(str, depths)),
        "prefill": str(setup.prefill),
        "steps": str(setup.steps),
        "seed": str(setup.seed),
        "texts": "\n".join(str(path.resolve()) for path in setup.texts),
    }
    return TaskRef(problem.actor, problem.effect, arguments, (setup.split, TASKS))


async def measure(
    task: TaskRef, subjects: Sequence[Subject], setup: Setup, progress: Callable[[int, int], None]
) -> dict[str, Found]:
    """What is found of each policy; `progress` is told contexts done and contexts in all.

    Raises KvolveError for a policy that fails, and for contexts that the split does not have.
    """
    stages = [(setup.split, number) for number in range(setup.contexts)]
    stages += [(TASKS, number) for number in range(setup.tasks * len(KINDS))]
    jobs = [(one, *stage) for stage in stages for one in subjects]
    pool = LocalPool(task, min(setup.workers, len(jobs)), Limits(WALL_S, CPU_S))
    done = 0

    async def one_context(subject: Subject, stage: str, number: int) -> dict[str, Any]:
        nonlocal done
        outcome = await pool.submit(subject.source, stage, number)
        done += 1
        progress(done, len(jobs))
        return _value(subject, outcome)

    try:
        await pool.start()
        values = await asyncio.gather(*(one_context(*job) for job in jobs))
    finally:
        await pool.close()
    of_stage: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for (one, stage, _), value in zip(jobs, values, strict=True):
        of_stage[one.name, stage].append(value)
    return {
        one.name: Found(effects(of_stage[one.name, setup.split]), answered(of_stage[one.name, TASKS]))
        for one in subjects
    }


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


def answered(tasks: Sequence[Mapping[str, Any]]) -> list[Answered]:
    """What the tasks of one policy come to, kind by kind and budget by budget; kinds take turns."""
    found = []
    for turn, kind in enumerate(KINDS):
        of_kind = tasks[turn :: len(KINDS)]
        for place, budget in enumerate(of_kind[0]["budgets"] if of_kind else ()):
            more = [_answer(task["nll"][place], task) - _answer(task["dense_nll"], task) for task in of_kind]
            right = [_answer(task["right"][place], task).all() for task in of_kind]
            dense_right = [_answer(task["dense_right"], task).all() for task in of_kind]
            found.append(
                Answered(
                    kind=kind,
                    budget=budget,
                    traffic=float(np.mean([task["traffic"][place] for task in of_kind])),
                    right=float(np.mean(right)),
                    dense_right=float(np.mean(dense_right)),
                    nll=mean_interval(np.array([of_one.mean() for of_one in more])),
                )
            )
    return found


def _answer(of_steps: Sequence[float], task: Mapping[str, Any]) -> "NDArray[np.float64]":
    """Of one value per step, those of the answer."""
    return np.array(of_steps[-task["answer"] :], np.float64)


def found_as_json(setup: Setup, found: Mapping[str, Found]) -> dict[str, Any]:
    """Everything that a program may ask for."""
    return {
        "model": setup.model,
        "split": setup.split,
        "contexts": setup.contexts,
        "prefill": setup.prefill,
        "steps": setup.steps,
        "tasks": setup.tasks,
        "task_seed": setup.seed,
        "policies": {
            name: {
                "text": [_as_json(effect) for effect in one.effects],
                "tasks": [_as_json(answered) for answered in one.answered],
            }
            for name, one in found.items()
        },
    }


def _as_json(of: Effect | Answered) -> dict[str, Any]:
    plain = asdict(of)
    for name, value in vars(of).items():
        if isinstance(value, Difference):
            interval = None if math.isinf(value.low) else [value.low, value.high]
            plain[name] = {"value": value.value, "interval": interval}
    return plain


def show_found(console: Console, setup: Setup, found: Mapping[str, Found]) -> None:
    """A table of what was found in texts, and one of the tasks where there were any."""
    table = _table(
        f"{setup.model}, {setup.split}: {setup.contexts} x {setup.prefill:,} tokens, {setup.steps} decode "
        "steps each, against dense attention",
        *("budget", "traffic", "KL", "95% interval", "NLL", "95% interval", "same first"),
    )
    for name, one in found.items():
        for effect in one.effects:
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
    if not setup.tasks:
        return
    title = f"{setup.tasks} tasks of each kind, seed {setup.seed}: right answers, against dense attention"
    table = _table(title, "task", "budget", "traffic", "right", "dense", "NLL", "95% interval")
    for name, one in found.items():
        for answer in one.answered:
            table.add_row(
                name,
                answer.kind,
                f"{answer.budget:.1%}",
                f"{answer.traffic:.2%}",
                f"{answer.right:.0%}",
                f"{answer.dense_right:.0%}",
                f"{answer.nll.value:+.4f}",
                _interval(answer.nll),
            )
    console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _interval(of: Difference) -> str:
    return "" if math.isinf(of.low) else str(of)
