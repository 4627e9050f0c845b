"""Runs on a user's own program and evaluator: what is granted, and how they are tried before a run."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.problem import Inputs, Problem
from evaluators.script.imports import FLAG
from evaluators.script.judge import TRIAL, Terms
from evaluators.script.problem import (
    CASCADE,
    EVALUATION_ACTOR,
    functions_of,
    read,
    script_inputs,
    script_problem,
)
from evolve.problems import task_of
from evolve.settings import Settings
from kvolve import KvolveError
from sandbox.task import Limits, Profile, TaskRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.task import Outcome

    Say = Callable[[str], None]

CHARACTERS = 800  # of an evaluator's words in an error


def problem_of_files(settings: Settings, text: str | None = None) -> Problem:
    """The problem of a run on a script; `text` is its initial program where that is known already.

    Raises KvolveError for a file that cannot be read.
    """
    initial = Path(str(settings.initial))
    if text is None:
        text = read(initial).decode("utf-8", errors="replace")
    return script_problem(initial, text, settings.allow_packages, settings.instructions)


def inputs_of_files(settings: Settings) -> Inputs:
    """The user's files as the workload of a run. Raises KvolveError for one that cannot be used."""
    initial, evaluator = Path(str(settings.initial)), Path(str(settings.evaluator))
    functions = functions_of(evaluator)
    terms = Terms(
        packages=",".join(settings.allow_packages),
        thresholds=settings.cascade_thresholds,
        stages=tuple(name for name in functions if name in CASCADE),
        noisy=settings.noisy,
        evaluates="evaluate" in functions,
    )
    grants = repr((settings.allow_packages, settings.cascade_thresholds, settings.network))
    data = tuple(map(Path, settings.data))
    for path in data:
        if not path.exists():
            raise KvolveError(f"There is no file or folder {path} to be read. Correct --data.")
    return script_inputs(initial, evaluator, data, terms, grants)


def sandboxes_of(settings: Settings, problem: Problem, inputs: Inputs) -> TaskRef:
    """The sandboxes of a script: the program's, as any candidate's, and beside it the evaluator's, with what
    was granted; or that one alone where program and evaluator have to share a process."""
    inside = {"packages": ",".join(settings.allow_packages)}
    program = replace(task_of(problem, inputs), inside=inside)
    evaluation = replace(
        program,
        actor=EVALUATION_ACTOR,
        inside=inside | {"walled": "no" if settings.unsafe_sandbox else "yes"},
        readable=(str(settings.evaluator), *settings.data),
        profile=Profile.ONLINE_EVALUATOR if settings.network else Profile.EVALUATOR,
    )
    return replace(program, partner=evaluation) if settings.processes == 2 else evaluation


def try_out(settings: Settings, limits: Limits, say: "Say") -> Settings:
    """Evaluates the initial program twice, and settles how those of the run are evaluated: in how many
    processes, and whether scores are noisy. Says what was found.

    Raises KvolveError where the initial program gets no score.
    """
    apart = _tried(settings, limits)
    reason = _reason_to_share(apart)
    if reason:
        shared = settings.model_copy(update={"processes": 1})
        together = _tried(shared, limits)
        if not _failure(together):
            say(
                f"Program and evaluator share one sandboxed process ({reason}): a program could reach its "
                "own score there."
            )
            settings, apart = shared, together
    if failure := _failure(apart):
        raise KvolveError(f"The initial program {settings.initial} gets no score. {failure}")
    first = _value(apart)["score"]
    again = _tried(settings, limits, sample=1)
    second = None if _failure(again) else _value(again)["score"]
    noisy = first != second
    told = "no score" if second is None else f"{second:.6g}"
    how = f"a second time {told}: scores are noisy" if noisy else "twice"
    say(f"The initial program scores {first:.6g}, {how}.")
    return settings.model_copy(update={"noisy": noisy})


def _tried(settings: Settings, limits: Limits, sample: int = 0) -> "Outcome":
    """The initial program in the trial stage. Raises KvolveError for an undeclared package."""
    from sandbox.worker import Worker

    problem = problem_of_files(settings)
    worker = Worker(
        sandboxes_of(settings, problem, inputs_of_files(settings)), limits, settings.unsafe_sandbox
    )
    try:
        outcome = worker.run(problem.seeds()[0].source, TRIAL, sample)
    finally:
        worker.close()
    undeclared = str((outcome.value or {}).get("undeclared", ""))
    if not undeclared and outcome.failure == "interface" and FLAG in outcome.message:
        undeclared = outcome.message
    if undeclared:
        raise KvolveError(undeclared)
    return outcome


def _value(outcome: "Outcome") -> dict[str, Any]:
    assert outcome.value is not None
    return outcome.value


def _failure(outcome: "Outcome") -> str:
    """Why the initial program has no score; "" if it has one."""
    if outcome.value is None:
        return f"{outcome.failure}: {outcome.message}"[:CHARACTERS]
    return str(outcome.value["failed"])[:CHARACTERS]


def _reason_to_share(outcome: "Outcome") -> str:
    """Why program and evaluator cannot be apart; "" if they can."""
    if outcome.value is not None and outcome.value["cannot"]:
        return str(outcome.value["cannot"]).partition("\n")[0]
    failure = _failure(outcome).partition("\n")[0]
    return f"apart it fails: {failure}" if failure else ""
