"""What `kvolve problems` says: the problems, or one of them with its interface, descriptors and seeds."""

from typing import Any

from evaluators.problem import PROBLEMS, Problem, get_problem


def problems_as_json() -> list[dict[str, str]]:
    """Name and summary of every problem."""
    return [{"name": name, "summary": get_problem(name).summary} for name in PROBLEMS]


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
