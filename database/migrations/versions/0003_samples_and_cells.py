"""Further measurements of noisy candidates, requests and waiting results, cells other than bins.

Content hashes change with this revision: they are made of a digest of each evaluation now, and cover the
further measurements.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "sample",
        sa.Column("candidate_id", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidate.id"], name="fk_sample_candidate_id"),
        sa.PrimaryKeyConstraint("candidate_id", "stage", "number", name="pk_sample"),
    )
    op.create_table(
        "result",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["proposal.number"], name="fk_result_number"),
        sa.PrimaryKeyConstraint("number", name="pk_result"),
    )
    requests = op.create_table(
        "request",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("remeasured", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidate.id"], name="fk_request_candidate_id"),
        sa.PrimaryKeyConstraint("number", "position", name="pk_request"),
        sqlite_with_rowid=False,
    )
    if rows := list(noted_requests()):
        op.bulk_insert(requests, rows)
    op.execute("DELETE FROM event WHERE kind = 'request'")
    op.create_index("ix_parent_candidate_id", "parent", ["candidate_id"])
    op.add_column("run", sa.Column("centroids_json", sa.String(), nullable=False, server_default="[]"))
    op.add_column("evaluation", sa.Column("noisy", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("evaluation", sa.Column("digest", sa.LargeBinary(), nullable=False, server_default=""))
    add_digests()
    with op.batch_alter_table("elite", table_kwargs={"sqlite_with_rowid": False}) as elite:
        elite.add_column(sa.Column("displaced", sa.Integer(), nullable=True))
        elite.create_foreign_key("fk_elite_displaced", "proposal", ["displaced"], ["number"])


def noted_requests() -> Iterator[dict[str, object]]:
    """The requests that were kept among the events, as rows."""
    connection = op.get_bind()
    candidate = sa.table("candidate", sa.column("id"), sa.column("hash"))
    texts = connection.execute(sa.text("SELECT text FROM event WHERE kind = 'request' ORDER BY id"))
    for note in map(json.loads, texts.scalars().all()):
        for position, parent in enumerate(note["parents"]):
            row = connection.scalar(sa.select(candidate.c.id).where(candidate.c.hash == parent))
            yield {
                "number": note["number"],
                "position": position,
                "candidate_id": row,
                "asked": note["asked"],
                "remeasured": False,
            }


def add_digests() -> None:
    """What each evaluation adds to the content hash."""
    connection = op.get_bind()
    read = ("id", "stage", "split", "score", "failure", "behaviour", "samples")
    named: list[sa.ColumnClause[Any]] = [sa.column(name) for name in read]
    evaluation = sa.table("evaluation", *named, sa.column("duplicate_of_id"), sa.column("digest"))
    original = sa.table("candidate", sa.column("id"), sa.column("hash"))
    metric = sa.table("metric", *map(sa.column, ("evaluation_id", "descriptor", "name", "value")))
    query = sa.select(*named, original.c.hash).select_from(
        evaluation.outerjoin(original, original.c.id == evaluation.c.duplicate_of_id)
    )
    measured = sa.select(sa.cast(metric.c.descriptor, sa.Boolean), metric.c.name, metric.c.value)
    fill = (
        evaluation.update()
        .where(evaluation.c.id == sa.bindparam("of"))
        .values(digest=sa.bindparam("made", type_=sa.LargeBinary))
    )
    for number, *decided, samples, original_hash in connection.execute(query).all():
        rows = connection.execute(measured.where(metric.c.evaluation_id == number)).all()
        content: tuple[Any, ...] = (*decided, bytes(samples), original_hash, False)
        content += tuple(sorted((tuple(row) for row in rows), key=lambda row: row[:2]))
        made = hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).digest()[:16]
        connection.execute(fill, {"of": number, "made": made})
