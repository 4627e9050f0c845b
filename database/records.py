"""What goes into the archive and what comes out of it: plain frozen records, free of SQL."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

Cell = tuple[int, ...]
"""A cell of the grid: one bin number per axis."""


def candidate_hash(source: str) -> str:
    """SHA-256 of the source text, as 64 hex digits: the name of a candidate everywhere."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Axis:
    """One descriptor of the grid, with bins that are declared once and never re-scaled.

    Bins have equal width over [low, high]; values outside belong to the outermost bins.
    Raises ValueError when there is no bin or the range is empty.
    """

    name: str
    low: float
    high: float
    bins: int

    def __post_init__(self) -> None:
        if self.bins < 1 or not self.low < self.high:
            raise ValueError(f"axis {self.name}: needs low < high and at least one bin, got {self}")

    def bin(self, value: float) -> int:
        """Number of the bin of a finite value, from 0 to bins - 1."""
        if value <= self.low:
            return 0
        if value >= self.high:
            return self.bins - 1
        # Rounding may lift a value just below `high` to `bins`.
        return min(int((value - self.low) / (self.high - self.low) * self.bins), self.bins - 1)


@dataclass(frozen=True)
class RunRecord:
    """What one run is about.

    `settings_json` holds every setting for the reader; the fields beside it are those that the archive acts
    on. `migration_interval` counts completed evaluations; 0 means that elites never migrate. `centroids`, if
    there are any, are the cells instead of the bins of the axes: points whose coordinates are descriptors,
    scaled to [0, 1] over the range of their axis.
    """

    problem: str
    settings_json: str
    seed: int
    axes: tuple[Axis, ...]
    islands: int
    migration_interval: int
    kvolve_version: str
    centroids: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Effort:
    """What a proposal took: the model that wrote it, tokens in and out, dollars, and the thinking behind it.

    What was asked for several proposals together is shared between them. `changed` counts the lines of the
    parent that the proposal takes away or adds; `patterns` are those of overthinking that its reply shows.
    """

    model: str = ""
    tokens: int = 0
    tokens_reasoning: int = 0
    cost_usd: float = 0.0
    changed: int = 0
    patterns: tuple[str, ...] = ()


NO_EFFORT = Effort()


@dataclass(frozen=True)
class ProposalRecord:
    """One attempt to make a candidate. `parents` are candidate hashes, the main parent first."""

    number: int
    island: int
    operator: str
    parents: tuple[str, ...]
    source: str
    detail: str = ""
    effort: Effort = NO_EFFORT


@dataclass(frozen=True)
class CallRecord:
    """One question to a model and its answer.

    `number` is the proposal that it was for (the first of several that were asked for together), `position`
    counts its calls from 0, in the order in which replies arrived. `tokens_reasoning` is the part of
    `tokens_out` that is not in the reply. `at` is when the reply arrived, in seconds since 1970 (UTC); 0
    where an older kvolve did not note it. `operator` is what was asked for; `sample` tells apart
    conversations that began with the same question.
    """

    number: int
    position: int
    model: str
    prompt: str
    reply: str
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_reasoning: int = 0
    cost_usd: float = 0.0
    latency_s: float = 0.0
    at: float = 0.0
    operator: str = ""
    sample: int = 0


@dataclass(frozen=True)
class EvaluationRecord:
    """The result of one stage of one candidate.

    `split` is the version (hash) of the stage's workload. Without a score there is a `failure`, and `message`
    says more. `behaviour` is the behaviour hash or "", `normal` the hash of the normalised program or "".
    `samples` is opaque. `duplicate_of` is the hash of the candidate whose result was taken over. Metrics may
    be any float; score and descriptors are finite. `noisy` says that another measurement of the candidate
    would give another score.
    """

    stage: str
    split: str
    score: float | None = None
    failure: str | None = None
    message: str = ""
    feedback: str = ""
    behaviour: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    descriptors: dict[str, float] = field(default_factory=dict)
    samples: bytes = b""
    duplicate_of: str | None = None
    wall_s: float = 0.0
    normal: str = ""
    noisy: bool = False


@dataclass(frozen=True)
class SampleRecord:
    """One more measurement of a candidate at a stage and split, by its number; a failure has no score.

    In the search it is the number of the proposal with which it was made, later it counts from 1.
    """

    hash: str
    stage: str
    split: str
    number: int
    score: float | None
    failure: str | None = None
    samples: bytes = b""
    wall_s: float = 0.0


@dataclass(frozen=True)
class RequestRecord:
    """What proposal `number` is to start from: hashes of its parents, or of what is to be measured again.

    `asked` says whether the proposer had been asked for it, `choice` what the proposer had chosen for it, and
    `drafts` how many proposals from that number on it is for.
    """

    number: int
    parents: tuple[str, ...]
    asked: bool
    remeasured: bool
    choice: str = ""
    drafts: int = 1


class DuplicateKind(StrEnum):
    """How a proposal repeated a candidate: same source, same program, or same decisions on the probe."""

    EXACT = "exact"
    NORMALISED = "normalised"
    BEHAVIOURAL = "behavioural"


class Placement(StrEnum):
    """What the grid did with a candidate that was offered to it."""

    NEW_CELL = "new cell"
    IMPROVED = "improved"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Elite:
    """The best candidate of one cell of one island; `number` is the proposal that made it.

    `score` is the mean of `samples` measurements and `spread` the sum of their squared distances from it;
    `measured` is the number of the proposal with which the last of them was made.
    """

    island: int
    cell: Cell
    hash: str
    score: float
    number: int
    noisy: bool = False
    samples: int = 1
    spread: float = 0.0
    measured: int = 0


@dataclass(frozen=True)
class Step:
    """A completed proposal. `parent` is its main parent; `score` is that of a candidate offered to the grid,
    as it was then, before anybody measured it again. `gain` is by how much it beats the elite whose place it
    took, or its main parent where the cell was empty. `duplicate_of` is whom it repeats.
    """

    number: int
    operator: str
    hash: str
    parent: str | None
    score: float | None
    placement: Placement | None
    gain: float = 0.0
    duplicate_of: str | None = None
    effort: Effort = NO_EFFORT

    @property
    def entered(self) -> bool:
        """Whether the candidate became an elite."""
        return self.placement in (Placement.NEW_CELL, Placement.IMPROVED)


@dataclass(frozen=True)
class Candidate:
    """A candidate, the first proposal that made it, and the evaluation that completed that proposal."""

    hash: str
    proposal: ProposalRecord
    evaluation: EvaluationRecord | None

    @property
    def source(self) -> str:
        return self.proposal.source


@dataclass(frozen=True)
class Known:
    """An evaluation that a functionally equal candidate may take over, and the candidate that earned it."""

    hash: str
    evaluation: EvaluationRecord


@dataclass(frozen=True)
class Standing:
    """One line of a leaderboard or a lineage; no `score` for a failure, a duplicate or a pending proposal."""

    hash: str
    number: int
    operator: str
    score: float | None


@dataclass(frozen=True)
class Cost:
    """What model calls consumed; `tokens_out` includes `tokens_reasoning`."""

    tokens_in: int
    tokens_out: int
    usd: float
    tokens_reasoning: int = 0
    calls: int = 0


@dataclass(frozen=True)
class OperatorCount:
    """How an operator fares: proposals, those that earned a score themselves, those that became elite."""

    proposals: int
    scored: int
    elite: int


@dataclass(frozen=True)
class Yield:
    """What an operator came to with a model: its calls, its proposals, and what the grid gained by them.

    `changed` is the sum of changed lines, `patterns` counts the proposals that show each one. `explain` has
    calls and no proposals.
    """

    model: str
    operator: str
    cost: Cost
    proposals: int = 0
    scored: int = 0
    elite: int = 0
    gain: float = 0.0
    changed: int = 0
    patterns: dict[str, int] = field(default_factory=dict)

    @property
    def gain_per_million(self) -> float | None:
        """Score gained per million tokens, in and out; None where none were counted."""
        tokens = self.cost.tokens_in + self.cost.tokens_out
        return 1e6 * self.gain / tokens if tokens else None

    @property
    def reasoning_per_line(self) -> float:
        """Tokens of reasoning per changed line."""
        return self.cost.tokens_reasoning / max(1, self.changed)


@dataclass(frozen=True)
class Retests:
    """Proposals that behaved like a known candidate on the probe and were evaluated all the same.

    A collision is one whose result differs: equal behaviour hashes did not mean equal candidates.
    """

    agreed: int
    collided: int


@dataclass(frozen=True)
class Failure:
    """A candidate that failed in the probe or the search, and what is said of it."""

    source: str
    kind: str
    message: str


@dataclass(frozen=True)
class Event:
    """Something worth telling; `at` is in seconds since 1970 (UTC)."""

    at: float
    kind: str
    text: str
