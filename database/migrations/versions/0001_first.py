"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "candidate",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("source", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_candidate"),
        sa.UniqueConstraint("hash", name="uq_candidate_hash"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("problem", sa.String(), nullable=False),
        sa.Column("settings_json", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("axes_json", sa.String(), nullable=False),
        sa.Column("islands", sa.Integer(), nullable=False),
        sa.Column("migration_interval", sa.Integer(), nullable=False),
        sa.Column("kvolve_version", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_run"),
    )
    op.create_table(
        "evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=False),
        sa.Column("duplicate_of_id", sa.Integer(), nullable=True),
        sa.Column("stage", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("behaviour", sa.String(), nullable=False),
        sa.Column("wall_s", sa.Double(), nullable=False),
        sa.Column("message", sa.LargeBinary(), nullable=False),
        sa.Column("feedback", sa.LargeBinary(), nullable=False),
        sa.Column("samples", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidate.id"], name="fk_evaluation_candidate_id"),
        sa.ForeignKeyConstraint(["duplicate_of_id"], ["candidate.id"], name="fk_evaluation_duplicate_of_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluation"),
        sa.UniqueConstraint("candidate_id", "stage", "split", name="uq_evaluation_candidate_id_stage_split"),
    )
    op.create_index("ix_evaluation_behaviour", "evaluation", ["behaviour", "stage"])
    op.create_table(
        "metric",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("descriptor", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name="fk_metric_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "descriptor", "name", name="pk_metric"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "proposal",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("island", sa.Integer(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=False),
        sa.Column("tokens_in", sa.Integer(), nullable=False),
        sa.Column("tokens_out", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("completion", sa.Integer(), nullable=True),
        sa.Column("evaluation_id", sa.Integer(), nullable=True),
        sa.Column("duplicate_of_id", sa.Integer(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("placement", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidate.id"], name="fk_proposal_candidate_id"),
        sa.ForeignKeyConstraint(["duplicate_of_id"], ["candidate.id"], name="fk_proposal_duplicate_of_id"),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluation.id"], name="fk_proposal_evaluation_id"),
        sa.PrimaryKeyConstraint("number", name="pk_proposal"),
        sa.UniqueConstraint("completion", name="uq_proposal_completion"),
    )
    op.create_index("ix_proposal_candidate_id", "proposal", ["candidate_id"])
    op.create_index("ix_proposal_operator_score", "proposal", ["operator", "score", "number"])
    op.create_index("ix_proposal_score", "proposal", ["score", "number"])
    op.create_table(
        "elite",
        sa.Column("island", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cell", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["proposal.number"], name="fk_elite_number"),
        sa.PrimaryKeyConstraint("island", "position", name="pk_elite"),
        sa.UniqueConstraint("island", "cell", name="uq_elite_island_cell"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "parent",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("candidate_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["candidate_id"], ["candidate.id"], name="fk_parent_candidate_id"),
        sa.ForeignKeyConstraint(["number"], ["proposal.number"], name="fk_parent_number"),
        sa.PrimaryKeyConstraint("number", "position", name="pk_parent"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "transcript",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("prompt", sa.LargeBinary(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["proposal.number"], name="fk_transcript_number"),
        sa.PrimaryKeyConstraint("number", name="pk_transcript"),
    )
