"""What a problem is, and how one is found by its name."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kvolve import KvolveError

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = (
    "token_selection",
    "verified_selection",
    "prefill_selection",
    "kv_eviction",
    "moe_load_balance",
    "model_placement",
    "spot_scheduling",
    "transaction_scheduling",
    "llm_sql",
)
SCRIPT = "script"  # the problem that two files of a user make: it is registered nowhere


@dataclass(frozen=True)
class Descriptor:
    """A measured behaviour that spans one axis of the MAP-Elites grid, cut into equal bins of [low, high]."""

    name: str
    low: float
    high: float
    bins: int
    meaning: str


@dataclass(frozen=True, eq=False)  # compared by identity: what was screened is looked up by it
class Language:
    """The part of Python in which candidates of a problem are written; the screen refuses everything else."""

    modules: Mapping[str, frozenset[str]]  # importable module -> names that may be used of it
    attributes: frozenset[str]  # attributes and methods of any other object
    builtins: frozenset[str]
    provided: frozenset[str]  # names that the problem puts into the candidate's globals
    max_characters: int = 20_000
    max_nodes: int = 6_000
    max_depth: int = 40
    template: str | None = None  # a program outside of whose markers nothing may be changed; see ScreenRules


@dataclass(frozen=True)
class Seed:
    """A published algorithm that ships with the project."""

    name: str
    path: Path
    role: str  # "seed", "floor" (shown, and a parent like any seed) or "bound" (shown, never a parent)

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The first line of its docstring."""
        return self.source.partition('"""')[2].partition("\n")[0].removesuffix('"""')


@dataclass(frozen=True)
class Inputs:
    """The workloads of one run: what the judge is opened with."""

    arguments: Mapping[str, str]  # all of them absolute paths
    splits: Mapping[str, str]  # stage -> version of its workload (a content hash)
    summary: str
    options: Mapping[str, str] = field(default_factory=dict)  # further arguments, which are no paths


@dataclass(frozen=True)
class Problem:
    """What is to be discovered. A new problem is a new package `evaluators/<name>/` with one of these."""

    name: str
    summary: str
    score_unit: str
    descriptors: tuple[Descriptor, ...]
    language: Language
    stages: tuple[str, ...]
    floors: tuple[str, ...]
    bounds: tuple[str, ...]
    actor: str  # "module:callable" of the half that runs candidates
    judge: str  # "module:callable" of the half that scores their decisions
    inputs: Callable[[Path | None], Inputs]  # of a recording, where there are recordings
    score_of: Callable[["np.ndarray"], float]  # samples [contexts, ...] -> score
    standalone: str  # module whose classes an exported candidate carries along; "" where it stands alone
    headline: Mapping[str, str]  # columns of a leaderboard: title -> metric
    recorded: bool = False  # whether `inputs` takes a recording
    prepared: str = ""  # or "module:callable" of what makes the folder that it takes, by a run's settings
    with_goals: Callable[[Inputs, Sequence[str]], Inputs] | None = None  # where a user may set them
    caveat: str = ""  # what has to be said beside the final figures
    beside: str = ""  # "module:callable" of the files that a source needs, given it and its run's recording
    effect: str = ""  # "module:callable" of the judge of policies inside a language model, if they run in one

    @property
    def interface(self) -> str:
        """The text that a proposer is shown."""
        return (ROOT / "evaluators" / self.name / "interface.md").read_text(encoding="utf-8")

    def seeds(self) -> tuple[Seed, ...]:
        """All seeds in the order of their file names: floors and published algorithms, then bounds."""
        seeds = [
            Seed(path.stem, path, self._role(path.stem))
            for path in sorted((ROOT / "seeds" / self.name).glob("*.py"))
        ]
        return tuple(sorted(seeds, key=lambda seed: seed.role == "bound"))

    def _role(self, name: str) -> str:
        if name in self.bounds:
            return "bound"
        return "floor" if name in self.floors else "seed"


def get_problem(name: str) -> Problem:
    """The problem registered under `name`; raises KvolveError if there is none."""
    if name not in PROBLEMS:
        raise KvolveError(f"There is no problem {name!r}. Known problems: {', '.join(PROBLEMS)}.")
    problem: Problem = importlib.import_module(f"evaluators.{name}.problem").PROBLEM
    return problem
