"""What a sandbox is asked to do, and what it answers: the words shared by driver, worker and zygote."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

# Labels that an actor or a judge may give with `failure_kind`. "screen" and "sandbox" are not among them:
# those are said by the driver and by the worker, never on behalf of a candidate.
FAILURES = frozenset(
    {
        "syntax",
        "interface",
        "crash",
        "timeout",
        "memory",
        "invalid_output",
        "over_budget",
        "nondeterministic",
    }
)


class Actor(Protocol):
    """The half of a problem that runs a candidate, inside the wall."""

    rounds: Mapping[str, int]  # stage -> how many fresh processes it takes

    def act(
        self, source: str, stage: str, carried: Mapping[str, np.ndarray] | None
    ) -> Mapping[str, np.ndarray]:
        """The candidate's decisions as plain arrays.

        `carried` is None in the first round; in the second, which runs in a fresh process, it is what the
        first round returned (read-only arrays).
        """


class Judge(Protocol):
    """The half of a problem that turns decisions into a value, outside the wall."""

    def judge(self, stage: str, rounds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, object]:
        """A value of plain numbers, strings, lists and dictionaries, from the arrays of every round."""


@dataclass(frozen=True)
class TaskRef:
    """Names a problem's two halves, so that a worker can load them in its own processes.

    `actor` and `judge` are "package.module:callable", called as callable(stages, **arguments): the actor
    inside the wall with the stages of its zygote, the judge outside it with all stages.
    """

    actor: str
    judge: str
    arguments: dict[str, str]
    readable: tuple[str, ...]  # absolute paths, mapped read-only into every zygote
    groups: tuple[tuple[str, ...], ...]  # stages that share one zygote
    stage_files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # stage -> absolute paths that only a zygote of this stage's group can read: what keeps a recording's
    # holdout out of the reach of a search candidate that opens files

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(stage for group in self.groups for stage in group)

    def group(self, stage: str) -> tuple[str, ...]:
        """The group that holds `stage`. Raises ValueError for a stage that no group names."""
        for group in self.groups:
            if stage in group:
                return group
        raise ValueError(f"no stage {stage!r}; this task has {', '.join(self.stages)}")

    def paths(self, group: tuple[str, ...]) -> tuple[str, ...]:
        """What the zygote of `group` may read beside Python and the project."""
        return self.readable + tuple(path for stage in group for path in self.stage_files.get(stage, ()))

    def pack(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def unpack(cls, plain: Mapping[str, Any]) -> TaskRef:
        return cls(
            actor=plain["actor"],
            judge=plain["judge"],
            arguments=dict(plain["arguments"]),
            readable=tuple(plain["readable"]),
            groups=tuple(tuple(group) for group in plain["groups"]),
            stage_files={stage: tuple(paths) for stage, paths in plain["stage_files"].items()},
        )


@dataclass(frozen=True)
class Limits:
    """What one child (one round of one stage) may use."""

    wall_s: float = 20.0
    cpu_s: int = 10
    memory_bytes: int = 4 << 30  # address space beyond what the zygote maps already
    output_bytes: int = 256 << 20  # decisions, as encoded
    file_bytes: int = 64 << 20  # the private /tmp
    open_files: int = 64
    grace_s: float = 5.0  # what a zygote may take beyond `wall_s` before it counts as lost


@dataclass(frozen=True)
class Outcome:
    """What a stage came to: either a value, or a failure (design.md 1) with a message for the proposer."""

    value: dict[str, Any] | None
    failure: str | None
    message: str
    wall_s: float
    cpu_s: float


def load(reference: str) -> Any:
    """The object that "package.module:name" names."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
