"""What an evaluator loads in place of the candidate: the same public names, behind which calls travel.

A program in the evaluator's sandbox, in whichever process and thread, connects to the socket of
`evaluation.py`, which hands its calls to the candidate's own process. Only the standard library and msgpack
are needed here, since a fresh Python of the evaluator loads it, too.
"""

import builtins
import inspect
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from evaluators.script.frames import receive, send
from evaluators.script.values import NotPlainError, decode, encode


class CandidateGoneError(RuntimeError):
    """The candidate's process ended: the evaluation comes to nothing."""


class Line:
    """One process's connection to the candidate; calls of several threads wait for one another."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process = 0

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The answer to one message."""
        message = encode(question)
        if self._process != os.getpid():  # after a fork, the parent's connection is the parent's
            self._process, self._socket, self._lock = os.getpid(), None, threading.Lock()
        with self._lock:
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                    self._socket.connect(self.address)
                send(self._socket, message)
                answer = receive(self._socket)
            except (BrokenPipeError, ConnectionError, FileNotFoundError) as error:
                self._drop()
                raise CandidateGoneError("the candidate's process does not answer") from error
            except BaseException:  # a time limit of the evaluator: the answer would be taken for the next one
                self._drop()
                raise
        if answer is None:
            raise CandidateGoneError("the candidate's process has ended")
        found: dict[str, Any] = decode(answer)
        return found

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the candidate's function returns, or raises."""
        try:
            answer = self.ask({"name": name, "args": args, "kwargs": kwargs})
        except NotPlainError as error:
            self.refuse(f"{name} was given {error}")
        if "raised" in answer:
            kind, text, lines = answer["raised"]
            found = getattr(builtins, kind, RuntimeError)
            is_usual = isinstance(found, type) and issubclass(found, Exception)
            made = (found if is_usual else RuntimeError)(text)
            made.add_note(lines)
            raise made
        return answer["value"]

    def refuse(self, reason: str) -> NoReturn:
        """Tells that something cannot cross, and raises TypeError."""
        self.ask({"cannot": reason})
        raise TypeError(f"This cannot cross between evaluator and program: {reason}.")

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def fill(namespace: dict[str, Any], line: Line, names: dict[str, Any]) -> None:
    """Puts the candidate's public names into the module of a shim."""
    module = namespace.get("__name__", "program")
    namespace |= names["constants"]
    namespace["__doc__"] = names["doc"]
    for name, parameters in names["functions"].items():
        namespace[name] = _function(name, parameters, line, module)
    others = names["others"]

    def missing(name: str) -> Any:
        if name in others:
            line.refuse(f"{name} is a {others[name]}")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    namespace["__getattr__"] = missing
    if module == "__main__":
        print(line.call("__main__", tuple(sys.argv[1:]), {}), end="")


def _function(name: str, parameters: list[list[Any]] | None, line: Line, module: str) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return line.call(name, args, kwargs)

    function.__name__ = function.__qualname__ = name
    function.__module__ = module
    if parameters is not None:
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter(
                    each, inspect._ParameterKind(kind), default=default[0] if default else inspect._empty
                )
                for each, kind, default in parameters
            ]
        )
    return function


def source_of(names: dict[str, Any], address: str, project: str) -> str:
    """The text of a shim program. A fresh Python finds this module in `project`."""
    return (
        "import sys as _sys\n"
        f"_sys.path.append({project!r}) if {project!r} not in _sys.path else None\n"
        "from evaluators.script import shim as _shim\n"
        "from evaluators.script.values import decode as _decode\n"
        f"_shim.fill(globals(), _shim.Line({address!r}), _decode({encode(names)!r}))\n"
    )
