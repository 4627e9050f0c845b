"""What isolates candidates on this machine, found out by trying each protection from the inside."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvolve import KvolveError
from sandbox import isolation, seccomp
from sandbox.task import Limits, TaskRef
from sandbox.worker import Worker

if TYPE_CHECKING:
    import numpy as np

    from sandbox.task import Ask


@dataclass(frozen=True)
class Protection:
    """One protection, whether it holds here, and what was seen when it was tried."""

    name: str
    active: bool
    detail: str


@dataclass(frozen=True)
class Probe:
    """An expression for the inside, and words that stand in what it comes to where the protection holds.

    `{file!r}` in it becomes the path of a file of the user, `{environment!r}` the variables that may be
    there, and the name of a system call its number.
    """

    name: str
    expression: str
    protected: str


PRELUDE = """
import ctypes, os, socket, time
libc = ctypes.CDLL(None, use_errno=True)
def status(name):
    return [line.split()[1] for line in open("/proc/self/status") if line.startswith(name + ":")][0]
def loop():
    while True: pass
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "allowed"
"""

CALLS = ("keyctl", "io_uring_setup", "bpf", "userfaultfd", "perf_event_open", "finit_module")
DENIED = "Operation not permitted"
NAMESPACES = ("user", "pid", "net", "ipc", "uts", "mnt", "cgroup")
PROBES = (
    Probe("no sockets", "socket.socket()", DENIED),
    Probe("no files of the user", "open({file!r}, 'rb')", "No such file or directory"),
    Probe("no files of the system", "open('/etc/passwd').read()", "No such file or directory"),
    Probe("no writing of files", "open('/tmp/note', 'w')", DENIED),
    Probe("empty environment", "sorted(set(os.environ) - {environment!r})", "[]"),
    Probe("no new processes", "os.fork()", DENIED),
    Probe("no other programs", "os.execv('/proc/self/exe', ['python'])", DENIED),
    Probe("no signals", "os.kill(1, 9)", DENIED),
    Probe("no ptrace", "call('ptrace', 16, 1, 0, 0)", DENIED),
    Probe("no memory of other processes", "call('process_vm_readv', 1, 0, 0, 0, 0, 0)", DENIED),
    Probe("no mounts", "call('mount', b'none', b'/tmp', b'tmpfs', 0, 0)", DENIED),
    Probe("no shared memory", "call('shmget', 42, 4096, 0o1666)", DENIED),
    Probe("no key ring", "call('syscall', {keyctl}, -1, -1, -1, -1, -1)", DENIED),
    Probe("no io_uring", "call('syscall', {io_uring_setup}, -1, -1, -1, -1, -1)", DENIED),
    Probe("no bpf", "call('syscall', {bpf}, -1, -1, -1, -1, -1)", DENIED),
    Probe("no userfaultfd", "call('syscall', {userfaultfd}, -1, -1, -1, -1, -1)", DENIED),
    Probe("no performance counters", "call('syscall', {perf_event_open}, -1, -1, -1, -1, -1)", DENIED),
    Probe("no kernel modules", "call('syscall', {finit_module}, -1, -1, -1, -1, -1)", DENIED),
    Probe("no namespaces within", "call('unshare', 0x10000000)", DENIED),
    Probe("no memory of the zygote", "open('/proc/1/mem', 'rb')", "Permission denied"),
    Probe("no pipes of the zygote", "open('/proc/1/fd/0', 'rb')", "Permission denied"),
    Probe("no capabilities", "status('CapEff')", "0000000000000000"),
    Probe("no new privileges", "status('NoNewPrivs')", "1"),
    Probe("system call filter", "status('Seccomp')", "2"),
    Probe("memory limit", "len(bytearray(1 << 30))", "memory"),
    Probe("CPU limit", "loop()", "timeout: used more than"),
    Probe("wall-clock limit", "time.sleep(60)", "timeout: no result"),
    Probe("open file limit", "[os.dup(0) for _ in range(100)]", "Too many open files"),
)
LIMITS = Limits(wall_s=2.5, cpu_s=1, memory_bytes=256 << 20)
TASK = TaskRef("sandbox.protections:Prober", "sandbox.protections:Finding", {}, ("probe",))


class Prober:
    """The actor of the probes; a probe's text is its candidate."""

    def act(self, source: str, ask: Ask) -> Mapping[str, np.ndarray]:
        import numpy as np

        program: dict[str, object] = {}
        exec(PRELUDE, program)
        return {"found": np.frombuffer(str(eval(source, program)).encode(), dtype=np.uint8)}


class Finding:
    """The judge of the probes: the text that one of them returned."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def examine(self, stage: str, source: str, sample: int) -> Finding:
        return Finding()

    def another_process(self) -> bool:
        return not self.found

    def answer(self, question: str, arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {}

    def take(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.found.append(bytes(arrays["found"]).decode(errors="replace"))

    def value(self) -> dict[str, object]:
        return {"found": self.found[0]}


def protections() -> list[Protection]:
    """Every protection, tried here. Where the wall cannot be built, what would be left without it."""
    try:
        return [Protection("bubblewrap", True, isolation.bwrap()), *_try(unsafe=False)]
    except KvolveError as error:
        return [Protection("bubblewrap", False, str(error)), *_try(unsafe=True)]


def _try(unsafe: bool) -> list[Protection]:
    worker = Worker(TASK, LIMITS, unsafe)
    try:
        with tempfile.NamedTemporaryFile() as file:
            values: dict[str, object] = {"file": file.name, "environment": {*isolation.ENVIRONMENT, "PWD"}}
            values |= {name: seccomp.number(name) for name in CALLS}
            tried = [(probe, _found(worker, probe.expression.format_map(values))) for probe in PROBES]
        held = [Protection(probe.name, probe.protected in found, found) for probe, found in tried]
        return [*(_namespace(worker, kind) for kind in NAMESPACES), *held]
    finally:
        worker.close()


def _namespace(worker: Worker, kind: str) -> Protection:
    """A namespace protects when it is not the one that this process lives in."""
    link = f"/proc/self/ns/{kind}"
    found = _found(worker, f"os.readlink({link!r})")
    return Protection(f"{kind} namespace", found.startswith(kind) and found != os.readlink(link), found)


def _found(worker: Worker, expression: str) -> str:
    """The first line of what an expression comes to inside: its value, or its failure."""
    outcome = worker.run(expression, "probe")
    text = outcome.value["found"] if outcome.value else f"{outcome.failure}: {outcome.message}"
    return str(text).partition("\n")[0]
