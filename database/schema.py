"""The tables of an archive (SQLAlchemy 2 typed mappings). One archive holds one run.

Rows are small and point at each other by integers: scans of `proposal` and inserts into indices stay cheap at
a million candidates. Long texts live in tables of their own or at the end of their row, compressed. A change
here needs a new file in `migrations/versions`; a test compares the two.
"""

import zlib

from sqlalchemy import (
    BigInteger,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

WITHOUT_ROWID = {"sqlite_with_rowid": False}


class CompressedText(TypeDecorator[str]):
    """Text that is stored as zlib-compressed UTF-8.

    Half a surrogate pair, which a model may send as a JSON escape, is kept: no paid-for reply is lost to it.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else zlib.compress(value.encode("utf-8", "surrogatepass"))

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else zlib.decompress(value).decode("utf-8", "surrogatepass")


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
    type_annotation_map = {float: Double}  # noqa: RUF012 (the name is SQLAlchemy's)


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


class Candidate(Table):
    __tablename__ = "candidate"

    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    source: Mapped[str] = mapped_column(CompressedText)


class Evaluation(Table):
    """Result of one stage; `duplicate_of_id` is the candidate whose result was taken over."""

    __tablename__ = "evaluation"
    __table_args__ = (
        UniqueConstraint("candidate_id", "stage", "split"),
        Index("ix_evaluation_behaviour", "behaviour", "stage"),
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
    message: Mapped[str] = mapped_column(CompressedText)
    feedback: Mapped[str] = mapped_column(CompressedText)
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

    `completion` counts evaluations from 1. `duplicate_of_id` says whom the attempt repeated. `score` is what
    the attempt earned itself: a failure has none, and neither has a duplicate. `placement` is empty for what
    was never offered to the grid.
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
    tokens_in: Mapped[int]
    tokens_out: Mapped[int]
    cost_usd: Mapped[float]
    completion: Mapped[int | None] = mapped_column(unique=True)
    evaluation_id: Mapped[int | None] = mapped_column(ForeignKey("evaluation.id"))
    duplicate_of_id: Mapped[int | None] = mapped_column(ForeignKey("candidate.id"))
    score: Mapped[float | None]
    placement: Mapped[str | None]
    detail: Mapped[str]


class Parent(Table):
    __tablename__ = "parent"
    __table_args__ = WITHOUT_ROWID

    number: Mapped[int] = mapped_column(ForeignKey("proposal.number"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidate.id"))


class Transcript(Table):
    """What was said to a model and what it answered."""

    __tablename__ = "transcript"

    number: Mapped[int] = mapped_column(ForeignKey("proposal.number"), primary_key=True, autoincrement=False)
    prompt: Mapped[str] = mapped_column(CompressedText)
    reply: Mapped[str] = mapped_column(CompressedText)


class Elite(Table):
    """The grid. `position` counts the cells of an island in the order in which they were filled.

    Score and candidate are those of the proposal: a migrated elite points at the same one.
    """

    __tablename__ = "elite"
    __table_args__ = (UniqueConstraint("island", "cell"), WITHOUT_ROWID)

    island: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cell: Mapped[str]
    number: Mapped[int] = mapped_column(ForeignKey("proposal.number"))


class Event(Table):
    __tablename__ = "event"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    kind: Mapped[str]
    text: Mapped[str]
