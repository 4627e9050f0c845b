"""The problem that two files of a user make: a program to begin with, and an evaluator of programs."""

import ast
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluators.problem import SCRIPT, Descriptor, Inputs, Language, Problem, Seed
from evaluators.script.judge import STAGES, Terms
from kvolve import KvolveError

if TYPE_CHECKING:
    import numpy as np

SEED = "initial"
CANDIDATE_ACTOR = "evaluators.script.actor:open_candidate"
EVALUATION_ACTOR = "evaluators.script.evaluation:open_evaluation"
JUDGE = "evaluators.script.judge:open_judge"
CASCADE = ("evaluate_stage1", "evaluate_stage2", "evaluate_stage3")
CAVEAT = (
    "A script has one evaluator: validation and holdout call it again, with other random numbers. They tell "
    "luck from skill; they do not show that a program does well on anything that the evaluator does not try."
)
DESCRIPTORS = (
    Descriptor("growth", -2.0, 3.0, 10, "lines of code against the initial program, as a power of two"),
    Descriptor("branching", 0.0, 0.6, 6, "branches and loops per line of code"),
)


@dataclass(frozen=True)
class ScriptProblem(Problem):
    """A problem whose interface and whose only seed come from the user's files."""

    initial: Path = Path()
    text: str = ""  # of the initial program
    packages: tuple[str, ...] = ()
    instructions: str = ""  # what a model is told besides

    @property
    def interface(self) -> str:
        """What a proposer is shown: what has to stay, and what may be used."""
        allowed = ", ".join(["the standard library", "numpy", *self.packages])
        lines = [
            "# A program, and an evaluator that scores it",
            self.instructions.strip(),
            "A candidate is a whole Python program. An evaluator, which it cannot see, loads it, calls "
            "its functions and gives it a score; higher is better. These names have to stay, with their "
            "parameters and with the kind of value that they return:",
            "```python\n" + "\n".join(_signatures(self.text)) + "\n```",
            f"It may import {allowed}. It has no network, reads and writes no files, and keeps nothing "
            "from one evaluation to the next.",
        ]
        if "EVOLVE-BLOCK-START" in self.text:
            lines.append(
                "Only what stands between the lines # EVOLVE-BLOCK-START and # EVOLVE-BLOCK-END may be "
                "changed; the lines themselves, and everything else, stay as they are."
            )
        return "\n\n".join(line for line in lines if line) + "\n"

    def seeds(self) -> tuple[Seed, ...]:
        """The initial program."""
        return (Seed(SEED, self.initial, "seed"),)


def script_problem(
    initial: Path, text: str, packages: tuple[str, ...] = (), instructions: str = ""
) -> ScriptProblem:
    """The problem of an initial program with this text."""
    return ScriptProblem(
        name=SCRIPT,
        summary="a program of your own, scored by an evaluator of your own",
        score_unit="what the evaluator returns: its combined_score, or the mean of its figures",
        descriptors=DESCRIPTORS,
        language=Language({}, frozenset(), frozenset(), frozenset(), 400_000, 100_000, 200, template=text),
        stages=STAGES,
        floors=(),
        bounds=(),
        actor=CANDIDATE_ACTOR,
        judge=JUDGE,
        inputs=_no_inputs,
        score_of=_mean,
        standalone="",
        headline={},
        caveat=CAVEAT,
        initial=initial,
        text=text,
        packages=packages,
        instructions=instructions,
    )


def script_inputs(
    initial: Path, evaluator: Path, data: tuple[Path, ...], terms: Terms, grants: str
) -> Inputs:
    """The files of a run as its workload; `grants` is what else decides a score, in words.

    Raises KvolveError for a file that cannot be read.
    """
    digest = hashlib.sha256(grants.encode())
    for path in (initial, evaluator, *(file for one in data for file in _files(one))):
        digest.update(hashlib.sha256(read(path)).digest())
    version = digest.hexdigest()[:16]
    return Inputs(
        arguments={"initial": str(initial), "evaluator": str(evaluator)},
        splits={stage: f"{stage}-{version}" for stage in STAGES},
        summary=f"{initial.name}, scored by {evaluator.name}",
        options={"terms": json.dumps(asdict(terms))},
    )


def functions_of(evaluator: Path) -> tuple[str, ...]:
    """Which functions of the protocol an evaluator has: `evaluate` and those of its cascade.

    Raises KvolveError for an evaluator with none, or that is no Python.
    """
    text = read(evaluator).decode(errors="replace")
    try:
        names = _bound_names(ast.parse(text))
    except (SyntaxError, ValueError) as error:
        raise KvolveError(f"The evaluator {evaluator} is not valid Python: {error}.") from error
    found = tuple(name for name in ("evaluate", *CASCADE) if name in names)
    if not {"evaluate", CASCADE[0]} & set(found):
        raise KvolveError(
            f"The evaluator {evaluator} has no function evaluate(program_path). Give one that returns a "
            "dictionary with combined_score."
        )
    return found


def read(path: Path) -> bytes:
    """What is in a file of the user. Raises KvolveError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise KvolveError(f"The file {path} cannot be read ({error.strerror}).") from error


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())
    else:
        yield path


def _bound_names(module: ast.Module) -> set[str]:
    """What a module defines or imports at its top level."""
    names: set[str] = set()
    for node in module.body:
        for inner in ast.walk(node):
            if isinstance(inner, ast.alias):
                names.add(inner.asname or inner.name)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def _signatures(text: str) -> list[str]:
    """The head of each function and class of a program that is not private."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return []
    found = []
    for node in module.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found.append(f"class {node.name}: ...")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            found.append(f"def {node.name}({ast.unparse(node.args)}): ...")
    return found


def _mean(samples: "np.ndarray") -> float:
    return float(samples.mean())


def _no_inputs(_: Path | None) -> Inputs:
    raise KvolveError("A script has no recordings. Start it with kvolve run INITIAL.py EVALUATOR.py.")
