"""One sandbox in which hostile programs meet an evaluator, and what the honest one earns there."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.problem import Problem
from evolve.problems import task_of
from evolve.run import limits_of
from evolve.script import inputs_of_files, problem_of_files, sandboxes_of
from evolve.settings import Settings
from kvolve import KvolveError
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import Worker

if TYPE_CHECKING:
    from types import TracebackType

STAGE = "search"
HONEST_RUNS = 3
ATTEMPT_S = 5.0  # of wall time, at most
PER_HONEST = 3  # an attempt takes no longer than this many honest runs, and a second
TOLERANCE = 1e-9


class Bench:
    """Scores programs in one sandbox."""

    def __init__(self, task: TaskRef, limits: Limits, unsafe: bool) -> None:
        self._task, self._limits, self._unsafe = task, limits, unsafe
        self._worker = Worker(task, limits, unsafe)
        self.honest = 0.0
        self.spread = 0.0
        self.output = ""

    def __enter__(self) -> "Bench":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._worker.close()

    def settle(self, source: str) -> str:
        """Scores the honest program several times, and limits what attempts may take; why it has no score,
        or "".
        """
        scores: list[float] = []
        wall_s = 0.0
        for _ in range(HONEST_RUNS):
            outcome = self._worker.run(source, STAGE)
            if outcome.value is None:
                return f"{outcome.failure}: {outcome.message}"
            scores.append(_score(outcome))
            wall_s = max(wall_s, outcome.wall_s)
        self.honest, self.spread = max(scores), max(scores) - min(scores)
        self._worker.close()
        limit_s = min(ATTEMPT_S, 1.0 + PER_HONEST * wall_s) if wall_s < ATTEMPT_S else 2 * wall_s
        self._limits = replace(self._limits, wall_s=limit_s, cpu_s=max(1, round(limit_s)))
        self._worker = Worker(self._task, self._limits, self._unsafe)
        return ""

    def score(self, source: str) -> float | None:
        """The score of a program, None for none."""
        outcome = self._worker.run(source, STAGE)
        return None if outcome.value is None else _score(outcome)

    def said(self, source: str) -> str:
        """What was printed while a program was scored."""
        outcome = self._worker.run(source, STAGE)
        return str((outcome.value or {}).get("feedback", "")) or outcome.message

    def pays(self, score: float | None) -> bool:
        """Whether a score is above the honest one, by more than that varies."""
        margin = 3 * self.spread + TOLERANCE * max(1.0, abs(self.honest))
        return score is not None and score > self.honest + margin

    def earns_more(self, source: str) -> bool:
        """Whether a program pays."""
        return self.pays(self.score(source))

    def earns_more_each_time(self, source: str, honest: str) -> bool:
        """Whether a program pays several times in a row. The honest one is scored again in between: where
        scores depend on time, they vary by more from one minute to the next than they did while settling.
        """
        for _ in range(HONEST_RUNS):
            if not self.earns_more(source):
                return False
            if (score := self.score(honest)) is not None:
                lowest = min(self.honest - self.spread, score)
                self.honest = max(self.honest, score)
                self.spread = self.honest - lowest
        return self.earns_more(source)


def script_bench(settings: Settings, processes: int) -> Bench:
    """The sandbox of a user's evaluator, in one process with the program or apart from it."""
    settings = settings.model_copy(update={"processes": processes})
    problem = problem_of_files(settings)
    task = sandboxes_of(settings, problem, inputs_of_files(settings))
    return Bench(task, limits_of(settings), settings.unsafe_sandbox)


def problem_bench(problem: Problem, settings: Settings) -> Bench:
    """The sandbox of a problem of kvolve, as in a run."""
    task = task_of(problem, problem.inputs(None))
    return Bench(task, limits_of(settings), settings.unsafe_sandbox)


def program_of(settings: Settings) -> str:
    """The text of the initial program. Raises KvolveError where it is none."""
    path = Path(str(settings.initial))
    try:
        text = path.read_text(encoding="utf-8")
        compile(text, str(path), "exec")
    except (OSError, ValueError, SyntaxError) as error:
        raise KvolveError(f"The program {path} cannot be used: {error}.") from error
    return text


def _score(outcome: Outcome) -> float:
    assert outcome.value is not None
    return float(outcome.value["score"])
