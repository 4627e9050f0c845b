"""The tables of an archive (SQLAlchemy 2 typed mappings). One archive holds one run.

Rows are small and point at each other by integers: scans of `proposal` and inserts into indices stay cheap at
a million candidates. Long texts live in tables of their own or at the end of their row, packed by `texts`. A
change here needs a new file in `migrations/versions`; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Dialect,
    Double,
    ForeignKey,
    Index,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

WITHOUT_ROWID = {"sqlite_with_rowid": False}


class PlainText(TypeDecorator[str]):
    """Short text for people and programs, with U+FFFD for what PostgreSQL cannot store: NUL, half a surrogate
    pair. Texts that have to come back as they were are packed into bytes.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        plain = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return plain.replace("\0", "\ufffd")


class Table(DeclarativeBase):
    """Base of all tables: floats are 64 bits everywhere, constraints have predictable names."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {float: Double, str: PlainText}  # noqa: RUF012 (the name is SQLAlchemy's)


class Run(Table):
    __tablename__ = "run"

    id: Mapped[int] = mapped_column(primary_key=True)
    problem: Mapped[str]
    settings_json: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    axes_json: Mapped[str]
    islands: Mapped[int]
    migration_interval: Mapped[int]
    kvolve_version: Mapped[str]
    centroids_json: Mapped[str]


class Candidate(Table):
    __tablename__ = "candidate"

    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    source: Mapped[bytes]


class Evaluation(Table):
    """Result of one stage; `duplicate_of_id` is the candidate whose result was taken over."""

    __tablename__ = "evaluation"
    __table_args__ = (
        UniqueConstraint("candidate_id", "stage", "split"),
        Index("ix_evaluation_stage_behaviour", "stage", "behaviour"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidate.id"))
    duplicate_of_id: Mapped[int | None] = mapped_column(ForeignKey("candidate.id"))
    stage: Mapped[str]
    split: Mapped[str]
    score: Mapped[float | None]
    failure: Mapped[str | None]
    behaviour: Mapped[str]
    wall_s: Mapped[float]
    message: Mapped[bytes]
    feedback: Mapped[bytes]
    samples: Mapped[bytes]
    normal: Mapped[str] = mapped_column(index=True)
    noisy: Mapped[bool]
    digest: Mapped[bytes]


class Sample(Table):
    """A further measurement of a candidate, beside its evaluation of this stage and split."""

    __tablename__ = "sample"

    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidate.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    split: Mapped[str]
    score: Mapped[float | None]
    failure: Mapped[str | None]
    wall_s: Mapped[float]
    samples: Mapped[bytes]


class Metric(Table):
    """A metric or a descriptor of an evaluation. SQLite has no NaN and stores it as NULL."""

    __tablename__ = "metric"
    __table_args__ = WITHOUT_ROWID

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id"), primary_key=True)
    descriptor: Mapped[bool] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float | None]


class Proposal(Table):
    """One attempt. The second half of the columns is empty until the attempt is evaluated.

    `completion` counts evaluations from 1. `duplicate_of_id` says whom the attempt repeated, `duplicate_kind`
    how. `agreed` is empty unless the attempt behaved like a known candidate and was evaluated all the same.
    `score` is what the attempt earned itself, the mean of all measurements where there are several: a failure
    has none, and neither has a duplicate. `placement` and `gain` are empty for what was never offered to the
    grid. `model` to `patterns` are the fields of `records.Effort`.
    """

    __tablename__ = "proposal"
    __table_args__ = (
        Index("ix_proposal_operator_score", "operator", "score", "number"),
        Index("ix_proposal_score", "score", "number"),
    )

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    island: Mapped[int]
    operator: Mapped[str]
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidate.id"), index=True)
    completion: Mapped[int | None] = mapped_column(unique=True)
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey("evaluation.id"))
    duplicate_of_id: Mapped[int | None] = mapped_column(ForeignKey("candidate.id"))
    score: Mapped[float | None]
    placement: Mapped[str | None]
    detail: Mapped[str]
    duplicate_kind: Mapped[str | None]
    agreed: Mapped[bool | None]
    model: Mapped[str]
    tokens: Mapped[int]
    tokens_reasoning: Mapped[int]
    changed: Mapped[int]
    cost_usd: Mapped[float]
    patterns: Mapped[str]
    gain: Mapped[float | None]


class Parent(Table):
    __tablename__ = "parent"
    __table_args__ = WITHOUT_ROWID

    number: Mapped[int] = mapped_column(ForeignKey("proposal.number"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidate.id"), index=True)


class ModelCall(Table):
    """One question to a model and its answer; see `records.CallRecord`.

    It is stored when the answer arrives, before its proposal exists: `number` is no foreign key.
    """

    __tablename__ = "model_call"
    __table_args__ = (
        # sums without reading texts
        Index(
            "ix_model_call_cost",
            *("model", "operator", "tokens_in", "tokens_out", "tokens_reasoning", "cost_usd"),
        ),
        Index("ix_model_call_operator_number", "operator", "number"),
    )

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model: Mapped[str]
    tokens_in: Mapped[int]
    tokens_out: Mapped[int]
    tokens_reasoning: Mapped[int]
    cost_usd: Mapped[float]
    latency_s: Mapped[float]
    at: Mapped[float]
    prompt: Mapped[bytes]
    reply: Mapped[bytes]
    operator: Mapped[str]
    sample: Mapped[int]


class Dictionary(Table):
    """What the texts of a run have in common; packed texts name it by its checksum."""

    __tablename__ = "dictionary"

    checksum: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    completion: Mapped[int]
    content: Mapped[bytes]


class Elite(Table):
    """The grid. `position` counts the cells of an island in the order in which they were filled.

    Score and candidate are those of the proposal: a migrated elite points at the same one. `displaced` is the
    proposal whose candidate had the cell before, as long as a noisy score may have to give it back.
    """

    __tablename__ = "elite"
    __table_args__ = (UniqueConstraint("island", "cell"), WITHOUT_ROWID)

    island: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cell: Mapped[str]
    number: Mapped[int] = mapped_column(ForeignKey("proposal.number"))
    displaced: Mapped[int | None] = mapped_column(ForeignKey("proposal.number"))


class Result(Table):
    """A result that is to enter the archive after those of earlier proposals; as compressed msgpack."""

    __tablename__ = "result"

    number: Mapped[int] = mapped_column(ForeignKey("proposal.number"), primary_key=True, autoincrement=False)
    content: Mapped[bytes]


class Request(Table):
    """What a proposal that is not stored yet is to start from, noted before the archive goes on."""

    __tablename__ = "request"
    __table_args__ = WITHOUT_ROWID

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidate.id"))
    asked: Mapped[bool]
    remeasured: Mapped[bool]
    choice: Mapped[str]
    drafts: Mapped[int]


class Event(Table):
    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    kind: Mapped[str]
    text: Mapped[str]
