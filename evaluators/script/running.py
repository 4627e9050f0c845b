"""The evaluator's own process: loads the user's file, calls its functions, and tells what they returned."""

import asyncio
import importlib.util
import inspect
import math
import numbers
import os
import socket
import sys
import traceback
import types
from typing import Any

from evaluators.script.actor import loaded
from evaluators.script.frames import receive, send
from evaluators.script.imports import (
    STAND_IN,
    Gate,
    UndeclaredError,
    install_gate,
    install_stand_in,
    seed_generators,
)
from evaluators.script.shim import CandidateGoneError
from evaluators.script.values import encode

COMBINED = "combined_score"
MOST_FIGURES = 200
TEXT_CHARACTERS = 2_000  # of one artifact
MOST_TEXTS = 20


def run_evaluator(
    job: dict[str, Any], source: str, program: str, address: str, allowed: frozenset[str]
) -> None:
    """Calls the functions that the job names, one after the other, and sends the result to the broker."""
    sys.stdout = open(1, "w", buffering=1, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115
    gate = install_gate(allowed)
    if STAND_IN not in job["packages"].split(","):
        install_stand_in()
    seed_generators(job["seed"])
    result = _evaluated(job, source, program, gate)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(address)
        send(line, encode({"result": result}))
        receive(line)
    sys.stdout.flush()
    sys.stderr.flush()


def _evaluated(job: dict[str, Any], source: str, program: str, gate: Gate) -> dict[str, Any]:
    """The figures and texts of the evaluation, or how it failed."""
    try:
        if job["loads"]:  # nothing but the program itself is tried
            loaded(source, "program")
            return {"figures": {}, "texts": {}, "stopped": 0}
        return _staged(load_evaluator(job["path"], job["text"]), job, program)
    except BaseException as error:  # SystemExit, too, must not pass for a result
        print(_told(error), file=sys.stderr)
        if isinstance(error, UndeclaredError):
            return {"failed": ["interface", str(error)], "undeclared": str(error)}
        label = getattr(error, "failure_kind", None)
        if label is not None:
            return {"failed": [label, str(error)], "undeclared": str(error) if gate.refused else ""}
        kind = "memory" if isinstance(error, MemoryError) else "crash"
        gone = isinstance(error, CandidateGoneError)
        return {"failed": [kind, f"The evaluator raised {type(error).__name__}: {error}"], "gone": gone}


def _told(error: BaseException) -> str:
    """Where an exception was raised, without the frames of this package."""
    told = traceback.TracebackException.from_exception(error)
    own = os.path.dirname(__file__)
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if os.path.dirname(frame.filename) != own]
    )
    return "".join(line for line in told.format() if not line.startswith("Traceback"))


def load_evaluator(path: str, text: str) -> types.ModuleType:
    """The user's evaluator as a module; it may import what lies beside it, as far as that was declared."""
    sys.path.insert(0, os.path.dirname(path))
    module = types.ModuleType("evaluator")
    module.__file__ = path
    module.__spec__ = importlib.util.spec_from_file_location("evaluator", path)
    sys.modules["evaluator"] = module
    exec(compile(text, path, "exec"), module.__dict__)
    return module


def _staged(module: types.ModuleType, job: dict[str, Any], program: str) -> dict[str, Any]:
    """Runs the functions in turn, until one stays below its threshold; later figures replace earlier ones."""
    figures: dict[str, float] = {}
    texts: dict[str, str] = {}
    for number, name in enumerate(job["functions"]):
        returned = getattr(module, name)(program)
        if inspect.iscoroutine(returned):
            returned = asyncio.run(returned)
        found, said = read_result(returned)
        figures |= found
        texts |= said
        decides = number < len(job["thresholds"]) and number + 1 < len(job["functions"])
        if decides and not passes(found, job["thresholds"][number]):
            return {"figures": figures, "texts": texts, "stopped": number + 1, "last": found}
    return {"figures": figures, "texts": texts, "stopped": 0, "last": figures}


def passes(figures: dict[str, float], threshold: float) -> bool:
    """Whether a program goes on to the next function. Without a combined score, one figure of several is
    enough: a quick check may say 1 for "it runs", beside a value of any size."""
    decisive = [figures[COMBINED]] if COMBINED in figures else list(figures.values())
    return any(figure >= threshold for figure in decisive)


def read_result(returned: Any) -> tuple[dict[str, float], dict[str, str]]:
    """The numbers and the texts of what an evaluator returned: a dictionary, a number, or an object with
    `metrics` and perhaps `artifacts`.

    Raises TypeError for anything else.
    """
    artifacts = getattr(returned, "artifacts", None)
    metrics = getattr(returned, "metrics", returned)
    if is_number(metrics):
        metrics = {COMBINED: metrics}
    if not isinstance(metrics, dict):
        raise TypeError(f"It has to return a dictionary of figures, not {type(returned).__name__}.")
    if artifacts is None and isinstance(metrics.get("artifacts"), dict):
        artifacts = metrics["artifacts"]
    nested = metrics.get("metrics")
    if COMBINED not in metrics and isinstance(nested, dict):
        metrics = nested
    figures: dict[str, float] = {}
    texts: dict[str, str] = {}
    for name, value in metrics.items():
        if is_number(value):
            figures[str(name)] = float(value)
        elif name not in ("artifacts", "metrics"):
            texts[str(name)] = str(value)[:TEXT_CHARACTERS]
    for name, value in (artifacts or {}).items():
        texts[str(name)] = str(value)[:TEXT_CHARACTERS]
    return dict(list(figures.items())[:MOST_FIGURES]), dict(list(texts.items())[:MOST_TEXTS])


def is_number(value: Any) -> bool:
    """Whether a value is one real number, be it numpy's."""
    if isinstance(value, numbers.Real):
        return True
    return getattr(value, "shape", None) == () and getattr(value, "dtype", None) is not None


def score_of_figures(figures: dict[str, float]) -> float:
    """The combined score or, without one, the mean of all figures; NaN if there are none."""
    if COMBINED in figures:
        return figures[COMBINED]
    return sum(figures.values()) / len(figures) if figures else math.nan
