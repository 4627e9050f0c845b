"""The evaluator's sandbox: one process runs the user's evaluator, another one passes its calls on.

The broker is what the sandbox calls the child. It forks the evaluator, listens on a socket in /tmp for it and
for whatever that starts, hands calls to the judge outside, and tells it in the end what the evaluator
returned. Where the program runs in one process with its evaluator, nothing is passed on.
"""

import contextlib
import os
import select
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluators.evaluation import CandidateError, FailureKind
from evaluators.script.actor import message, preload, told
from evaluators.script.frames import receive, send
from evaluators.script.running import run_evaluator
from evaluators.script.shim import source_of
from evaluators.script.values import MalformedError, decode, encode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[Any]]
    Ask = Callable[[str, Arrays], Arrays]

TMP = "/tmp"  # within the wall, a file system of its own
SHARED = "/dev/shm"
NOBODY = 65534  # the user within the wall
PROJECT = str(Path(__file__).resolve().parents[2])
TAIL = 4_000  # characters of the output that are kept
PIECE = 1 << 16
DRAIN_S = 0.2  # for output after the evaluator's end
CHANNEL = 3  # the child's way to the judge, which the evaluator must not have


class EvaluationActor:
    """Runs an evaluator on one program, in one process with it or on a shim of it."""

    def __init__(self, packages: str, walled: bool) -> None:
        """`packages` are the declared ones, separated by commas; `walled` tells whether /tmp is private."""
        self.allowed = preload(packages)
        self.walled = walled

    def act(self, source: str, ask: "Ask") -> "Arrays":
        """Runs one stage; `source` is the program where it runs in one process with its evaluator."""
        job = told(ask("begin", {}))
        with room(self.walled) as folder:
            names, address = job.get("names"), str(folder / ".program")
            text = source if names is None else source_of(names, address, PROJECT)
            program = folder / "program.py"
            program.write_text(text, encoding="utf-8")
            broker = Broker(job, ask, address)
            return message(
                broker.run(lambda: run_evaluator(job, source, str(program), address, self.allowed))
            )


class Broker:
    """Stands between the evaluator's processes and the judge."""

    def __init__(self, job: dict[str, Any], ask: "Ask", address: str) -> None:
        self.job = job
        self.ask = ask
        self.address = address
        self.result: dict[str, Any] | None = None
        self.cannot = ""  # what would have had to cross, but could not
        self.output = bytearray()

    def run(self, evaluator: Callable[[], None]) -> dict[str, Any]:
        """What came of the evaluator, which runs in a process of its own. Raises CandidateError for an end
        without a result."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(self.address)
        listening.listen(64)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(CHANNEL)
                os.dup2(write, 1)
                os.dup2(write, 2)
                listening.close()
                evaluator()
                os._exit(0)
            finally:
                os._exit(1)
        os.close(write)
        status = self._serve(pid, listening, read)
        tail = bytes(self.output).decode(errors="replace")[-TAIL:]
        if self.result is None:
            raise CandidateError(*_end_of(status, tail))
        return self.result | {"output": tail, "cannot": self.cannot}

    def _serve(self, pid: int, listening: socket.socket, read: int) -> int:
        """Serves all connections until the evaluator has ended and all is read; its exit status."""
        process = os.pidfd_open(pid)
        watched: list[Any] = [process, listening, read]
        deadline = float("inf")  # processes that it leaves behind may go on writing
        while time.monotonic() < deadline:
            ready = select.select(watched, [], [], None if process in watched else 0)[0]
            if not ready:
                break
            for one in ready:
                if one is process:
                    deadline = time.monotonic() + DRAIN_S
                    watched.remove(process)
                elif one is listening:
                    watched.append(listening.accept()[0])
                elif one is read:
                    if not self._hear(os.read(read, PIECE)):
                        watched.remove(read)
                elif not self._heed(one):
                    watched.remove(one)
        return os.waitpid(pid, 0)[1]

    def _hear(self, piece: bytes) -> bool:
        """Keeps the end of the output; whether more may come."""
        self.output += piece
        del self.output[: -4 * TAIL]
        return bool(piece)

    def _heed(self, connection: socket.socket) -> bool:
        """Takes a message of a connection; whether more may come of it."""
        try:
            said = receive(connection)
            if said is None:
                connection.close()
                return False
            told_here = decode(said)
            if "result" in told_here:
                self.result = told_here["result"]
                answer = encode({})
            elif "cannot" in told_here:
                self.cannot = self.cannot or str(told_here["cannot"])
                answer = encode({})
            elif self.job.get("names") is None:
                raise OSError("there is nothing to be called")
            else:
                answer = encode(told(self.ask("call", message(told_here))))
            send(connection, answer)
            return True
        except (OSError, MalformedError, KeyError, TypeError):
            connection.close()
            return False


@contextlib.contextmanager
def room(walled: bool) -> Iterator[Path]:
    """The working directory of an evaluator. Within the wall, nothing of an earlier one is left in /tmp;
    without it, only what lies in the directory is removed."""
    if not walled:
        with tempfile.TemporaryDirectory(prefix="kvolve-", ignore_cleanup_errors=True) as folder:
            os.chdir(folder)
            yield Path(folder)
            os.chdir("/")
        return
    if os.getuid() != NOBODY or not os.path.ismount(TMP):
        raise RuntimeError("this is not within the wall")
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        mapped = {line.split()[4].encode().decode("unicode_escape") for line in mounts}
    for place in (TMP, SHARED):
        _empty(place, mapped)
    folder = os.path.join(TMP, "kvolve")
    os.mkdir(folder)
    os.chdir(folder)
    yield Path(folder)


def _empty(folder: str, mapped: set[str]) -> bool:
    """Removes all in a folder but `mapped` paths, where the user's files are; whether all is gone."""
    gone = True
    for entry in os.scandir(folder):
        if entry.path in mapped:
            gone = False
        elif entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, stat.S_IRWXU)
            if _empty(entry.path, mapped):
                os.rmdir(entry.path)
            else:
                gone = False
        else:
            os.unlink(entry.path)
    return gone


def _end_of(status: int, tail: str) -> tuple[FailureKind, str]:
    """Why an evaluator ended without a result."""
    said = f"\n{tail}" if tail else ""
    if not os.WIFSIGNALED(status):
        code = os.waitstatus_to_exitcode(status)
        return FailureKind.CRASH, f"The evaluator ended with exit code {code} and without a result.{said}"
    number = signal.Signals(os.WTERMSIG(status))
    if number == signal.SIGXCPU:
        return FailureKind.TIMEOUT, f"The evaluator used too much CPU time.{said}"
    return FailureKind.CRASH, f"The evaluator was ended by signal {number.name}.{said}"


def open_evaluation(packages: str, walled: str) -> EvaluationActor:
    """The actor of evaluators, with the declared packages loaded; `walled` is "yes" or "no"."""
    return EvaluationActor(packages, walled == "yes")
