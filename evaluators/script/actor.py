"""The candidate's process: it loads the program, then makes the calls that the evaluator asks for."""

import contextlib
import importlib
import inspect
import io
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.script.imports import UndeclaredError, allowed_packages, install_gate, seed_generators
from evaluators.script.values import NotPlainError, decode, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.uint8]]
    Ask = Callable[[str, Arrays], Arrays]

CANDIDATE = "<candidate>"  # as `sandbox.child` calls it, to show a program's lines
MESSAGE = "m"
DETAIL_CHARACTERS = 2_000
USUAL = (
    "asyncio", "bisect", "collections", "concurrent.futures", "copy", "csv", "dataclasses", "decimal", "enum",
    "fractions", "functools", "hashlib", "heapq", "importlib.util", "itertools", "json", "logging", "math",
    "multiprocessing", "numpy.fft", "numpy.linalg", "numpy.random", "operator", "pickle", "random", "re",
    "signal", "statistics", "string", "subprocess", "tempfile", "textwrap", "traceback", "typing", "uuid",
)  # fmt: skip


def message(value: Any) -> dict[str, "NDArray[np.uint8]"]:
    """A plain value as the one array of a message."""
    return {MESSAGE: np.frombuffer(encode(value), np.uint8)}


def told(arrays: Mapping[str, Any]) -> Any:
    """The plain value of a message."""
    return decode(arrays[MESSAGE].tobytes())


def preload(packages: str) -> frozenset[str]:
    """Imports what was declared, and what many programs use, before anything is forked: a program then
    finds it there. Returns the import names that are allowed."""
    for name in (*USUAL, *packages.split(",")):
        if name:
            importlib.import_module(name)
    return allowed_packages(packages)


class CandidateActor:
    """Serves the calls of an evaluator that it never meets."""

    def __init__(self, packages: str) -> None:
        """`packages` are the declared ones, separated by commas."""
        self.allowed = preload(packages)

    def act(self, source: str, ask: "Ask") -> "Arrays":
        """Loads the program, tells what it has, and answers calls until there are no more."""
        job = told(ask("begin", {}))
        install_gate(self.allowed)
        seed_generators(job["seed"])
        module = loaded(source, "program")
        call = told(ask("loaded", message(described(module))))
        while call:
            answer = self.called(module, source, call, job["careful"])
            call = told(ask("returned", message(answer)))
        return {}

    def called(
        self, module: types.ModuleType, source: str, call: dict[str, Any], careful: bool
    ) -> dict[str, Any]:
        """What a call returned or raised; `careful` also tells whether it changed its arguments."""
        try:
            if call["name"] == "__main__":
                return {"value": run_as_main(source, call["args"])}
            before = encode([call["args"], call["kwargs"]]) if careful else b""
            value = getattr(module, call["name"])(*call["args"], **call["kwargs"])
            answer: dict[str, Any] = {"value": value}
            if careful and encode([call["args"], call["kwargs"]]) != before:
                answer["cannot"] = f"{call['name']} changes its arguments in place"
            encode(value)
            return answer
        except NotPlainError as error:
            return {"cannot": f"{call['name']} returned {error}", "raised": ["TypeError", str(error), ""]}
        except MemoryError:  # a limit was met: no evaluator is to take that for an answer
            raise
        except Exception as error:
            return raised(error, source)


def loaded(source: str, name: str) -> types.ModuleType:
    """The program as a module."""
    module = types.ModuleType(name)
    module.__file__ = f"/tmp/{name}.py"
    sys.modules[name] = module  # dataclasses and pickle look there
    try:
        exec(compile(source, CANDIDATE, "exec"), module.__dict__)
    except UndeclaredError as error:
        raise CandidateError(FailureKind.INTERFACE, str(error)) from error
    return module


def described(module: types.ModuleType) -> dict[str, Any]:
    """The public names of a program: functions with their parameters, constants, and those of other kinds."""
    functions: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    others: dict[str, str] = {}
    for name, value in vars(module).items():
        if name.startswith("__") or isinstance(value, types.ModuleType):
            continue
        if inspect.isfunction(value) or inspect.isbuiltin(value):
            functions[name] = _parameters(value)
            continue
        try:
            encode(value)
            constants[name] = value
        except NotPlainError:
            others[name] = type(value).__name__
    return {"functions": functions, "constants": constants, "others": others, "doc": module.__doc__}


def _parameters(function: Any) -> list[list[Any]] | None:
    """Name, kind and default of each parameter; None where they cannot be told."""
    found: list[list[Any]] = []
    try:
        for parameter in inspect.signature(function).parameters.values():
            default = [] if parameter.default is parameter.empty else [parameter.default]
            encode(default)
            found.append([parameter.name, int(parameter.kind), default])
    except (ValueError, TypeError):
        return None
    return found


def run_as_main(source: str, arguments: list[str]) -> str:
    """What the program prints when it is run as a script."""
    printed = io.StringIO()
    module = types.ModuleType("__main__")
    before, sys.argv = sys.argv, ["program.py", *arguments]
    sys.modules["__main__"] = module
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            exec(compile(source, CANDIDATE, "exec"), module.__dict__)
    finally:
        sys.argv = before
    return printed.getvalue()


def raised(error: Exception, source: str) -> dict[str, Any]:
    """An exception in plain form: its built-in kind, its text, and the program's lines."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        text = str(error)[:DETAIL_CHARACTERS]
    except Exception as second:  # a program's exception may have a __str__ that raises
        text = f"(a message that raises {type(second).__name__})"
    answer: dict[str, Any] = {"raised": [kinds[0], text, lines_of(error, source)]}
    if isinstance(error, UndeclaredError):
        answer["undeclared"] = text
    if isinstance(error, OSError):
        answer["denied"] = f"{type(error).__name__}: {text}"
    return answer


def lines_of(error: BaseException, source: str) -> str:
    """The program's own lines on the way to an exception."""
    lines = source.splitlines()
    found = []
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == CANDIDATE and frame.lineno and frame.lineno <= len(lines):
            found.append(f"line {frame.lineno}, in {frame.name}: {lines[frame.lineno - 1].strip()}")
    return "\n".join(found)[:DETAIL_CHARACTERS]


def open_candidate(packages: str = "") -> CandidateActor:
    """The actor of candidates, with the declared packages loaded."""
    return CandidateActor(packages)
