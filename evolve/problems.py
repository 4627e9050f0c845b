"""Problems by what names them, and what `kvolve problems` says of them."""

import json
from typing import Any

from database.reader import Reader
from evaluators.problem import PROBLEMS, SCRIPT, Inputs, Problem, Seed, get_problem
from evolve.settings import Settings, make_settings
from kvolve import KvolveError
from sandbox.task import TaskRef


def problem_of(settings: Settings) -> Problem:
    """The problem that settings name. Raises KvolveError if there is none."""
    if settings.problem != SCRIPT:
        return get_problem(settings.problem)
    from evolve.script import problem_of_files

    return problem_of_files(settings)


def problem_of_run(archive: Reader) -> Problem:
    """The problem of a run, also where the files of a script have changed since, or are gone."""
    if archive.run.problem != SCRIPT:
        return get_problem(archive.run.problem)
    from evolve.script import problem_of_files

    settings = make_settings(json.loads(archive.run.settings_json)["settings"])
    seeds = archive.candidates_of("seed")
    return problem_of_files(settings, seeds[0].source if seeds else None)


def seeds_of_run(problem: Problem, settings: Settings) -> tuple[Seed, ...]:
    """What a run begins with: the seeds that its settings name, by default all, and the bounds.

    Raises KvolveError for a name that is no seed of the problem.
    """
    seeds = problem.seeds()
    names = [seed.name for seed in seeds if seed.role != "bound"]
    if unknown := [name for name in settings.start_with if name not in names]:
        raise KvolveError(f"{problem.name} has no seed {unknown[0]!r}; it has {', '.join(names)}.")
    wanted = settings.start_with or names
    return tuple(seed for seed in seeds if seed.role == "bound" or seed.name in wanted)


def task_of(problem: Problem, inputs: Inputs) -> TaskRef:
    """What a sandbox is told of a problem and its workloads."""
    return TaskRef(
        actor=problem.actor,
        judge=problem.judge,
        arguments=dict(inputs.arguments) | dict(inputs.options),
        stages=problem.stages,
        data=tuple(dict.fromkeys(inputs.arguments.values())),
    )


def problems_as_json() -> list[dict[str, str]]:
    """Name and summary of every problem."""
    known = [{"name": name, "summary": get_problem(name).summary} for name in PROBLEMS]
    own = "a program of your own, scored by an evaluator of your own: kvolve run INITIAL.py EVALUATOR.py"
    return [*known, {"name": SCRIPT, "summary": own}]


def show_problems() -> None:
    """Prints a line for each problem."""
    for problem in problems_as_json():
        print(f"{problem['name']}: {problem['summary']}")


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """What a program may want to know of a problem."""
    return {
        "name": problem.name,
        "summary": problem.summary,
        "score": problem.score_unit,
        "descriptors": {
            d.name: {"meaning": d.meaning, "low": d.low, "high": d.high, "bins": d.bins}
            for d in problem.descriptors
        },
        "seeds": {seed.name: {"role": seed.role, "title": seed.title} for seed in problem.seeds()},
    }


def show_problem(problem: Problem) -> None:
    """Prints the interface of a problem, its score, descriptors and seeds."""
    print(problem.interface)
    print(f"Score: {problem.score_unit}.\n\nDescriptors:")
    for descriptor in problem.descriptors:
        print(
            f"  {descriptor.name}: {descriptor.meaning}; {descriptor.bins} bins of {descriptor.low} to "
            f"{descriptor.high}"
        )
    print("\nSeeds:")
    for seed in problem.seeds():
        print(f"  {seed.name} ({seed.role}): {seed.title}")
