"""What isolates candidates on this machine, found out by trying each protection from the inside."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kvolve import KvolveError
from sandbox.task import Limits, Outcome, TaskRef
from sandbox.worker import Worker

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Protection:
    """One protection, whether it holds here, and what was seen when it was tried."""

    name: str
    active: bool
    detail: str


class Prober:
    """Actor whose candidates are the probes below: what `probe()` raises or returns as text is the finding."""

    def __init__(self, stages: Sequence[str]) -> None:
        self.rounds: Mapping[str, int] = dict.fromkeys(stages, 1)

    def act(
        self, source: str, stage: str, carried: Mapping[str, np.ndarray] | None
    ) -> Mapping[str, np.ndarray]:
        import numpy as np

        program: dict[str, object] = {}
        exec(compile(source, "<candidate>", "exec"), program)
        found = str(eval("probe()", program))
        return {"found": np.frombuffer(found.encode(), dtype=np.uint8)}


class Finding:
    """Judge that hands on what a probe found."""

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = stages

    def judge(self, stage: str, rounds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, object]:
        return {"found": bytes(rounds[0]["found"]).decode(errors="replace")}


TASK = TaskRef("sandbox.protections:Prober", "sandbox.protections:Finding", {}, (), (("probe",),))
LIMITS = Limits(wall_s=2.0, cpu_s=1, memory_bytes=256 << 20)
EPERM = os.strerror(errno.EPERM)

# name, probe, and the words of the finding that show that the protection holds
PROBES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("own processes only", "import os\ndef probe(): return sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[0:1] + [os.getppid()]", ("[1, 1]",)),
)
