"""The course of a run, one line per completed proposal: what strategies and stops learn from.

They learn from the same lines while a run goes on and when it is resumed, so that nothing of what they know
is lost with the process.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import aliased

from database import schema
from database.connection import transaction
from database.reader import Reader
from database.records import Placement

PAGE = 1_000  # rows that are held at a time


@dataclass(frozen=True)
class Step:
    """A completed proposal. `parent` is its main parent, `score` that of a candidate offered to the grid."""

    number: int
    operator: str
    hash: str
    parent: str | None
    score: float | None
    placement: Placement | None

    @property
    def entered(self) -> bool:
        """Whether the candidate became an elite."""
        return self.placement in (Placement.NEW_CELL, Placement.IMPROVED)


def steps(archive: Reader) -> Iterator[Step]:
    """The steps of an archive in the order in which they were completed."""
    main = aliased(schema.Candidate)
    query = (
        select(schema.Proposal.number, schema.Proposal.operator, schema.Candidate.hash)
        .add_columns(main.hash.label("parent"), schema.Proposal.score, schema.Proposal.placement)
        .join(schema.Candidate, schema.Candidate.id == schema.Proposal.candidate_id)
        .outerjoin(
            schema.Parent, (schema.Parent.number == schema.Proposal.number) & (schema.Parent.position == 0)
        )
        .outerjoin(main, main.id == schema.Parent.candidate_id)
        .where(schema.Proposal.completion.is_not(None))
        .order_by(schema.Proposal.completion)
    )
    with transaction(archive._engine) as connection:
        for row in connection.execute(query, execution_options={"yield_per": PAGE}):
            placement = None if row.placement is None else Placement(row.placement)
            score = None if placement is None else row.score
            yield Step(row.number, row.operator, row.hash, row.parent, score, placement)
