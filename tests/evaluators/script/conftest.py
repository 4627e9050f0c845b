"""Programs and evaluators of our own writing, run in the real sandbox."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from evolve.problems import problem_of
from evolve.run import limits_of
from evolve.script import inputs_of_files, sandboxes_of
from evolve.settings import make_settings
from sandbox.task import Outcome
from sandbox.worker import Worker

LOAD = """
import importlib.util
def load(path):
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
"""


@dataclass
class Bench:
    """Evaluates programs with evaluators, each of which may call `load(path)`."""

    folder: Path
    workers: dict[str, Worker]

    def worker(self, evaluator: str, program: str, **given: object) -> Worker:
        key = repr((evaluator, sorted(given.items())))
        if key not in self.workers:
            number = len(self.workers)
            initial, scorer = self.folder / f"initial{number}.py", self.folder / f"evaluator{number}.py"
            initial.write_text(textwrap.dedent(program))
            scorer.write_text(LOAD + textwrap.dedent(evaluator))
            files = {"problem": "script", "initial": str(initial), "evaluator": str(scorer)}
            settings = make_settings(files | given)
            inputs = inputs_of_files(settings)
            sandboxes = sandboxes_of(settings, problem_of(settings), inputs)
            self.workers[key] = Worker(sandboxes, limits_of(settings))
        return self.workers[key]

    def __call__(
        self, program: str, evaluator: str, stage: str = "search", sample: int = 0, **given: object
    ) -> Outcome:
        worker = self.worker(evaluator, program, **given)
        return worker.run(textwrap.dedent(program), stage, sample)

    def score(self, *arguments: str, **given: object) -> float:
        outcome = self(*arguments, **given)
        assert outcome.value is not None, f"{outcome.failure}: {outcome.message}"
        return outcome.value["score"]


@pytest.fixture
def evaluated(tmp_path):
    bench = Bench(tmp_path, {})
    yield bench
    for worker in bench.workers.values():
        worker.close()
