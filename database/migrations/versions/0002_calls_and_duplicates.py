"""Model calls of their own, kinds of duplicates, dictionaries of texts.

Content hashes change with this revision: they cover the kinds of duplicates and the re-tests now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NO_TEXT = b"x\x9c\x03\x00\x00\x00\x00\x01"  # as it is packed

KINDS = """
UPDATE proposal SET duplicate_kind = CASE WHEN EXISTS (
    SELECT 1 FROM proposal AS earlier
    WHERE earlier.candidate_id = proposal.candidate_id AND earlier.completion < proposal.completion
) THEN 'exact' ELSE 'behavioural' END
WHERE duplicate_of_id IS NOT NULL
"""


def upgrade() -> None:
    calls = op.create_table(
        "model_call",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("tokens_in", sa.Integer(), nullable=False),
        sa.Column("tokens_out", sa.Integer(), nullable=False),
        sa.Column("tokens_reasoning", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=False),
        sa.Column("latency_s", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("prompt", sa.LargeBinary(), nullable=False),
        sa.Column("reply", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", "position", name="pk_model_call"),
    )
    move_transcripts(calls)
    op.create_index("ix_model_call_cost", "model_call", ["tokens_in", "tokens_out", "cost_usd"])
    op.drop_table("transcript")
    for column in ("tokens_in", "tokens_out", "cost_usd"):
        op.drop_column("proposal", column)

    op.add_column("proposal", sa.Column("duplicate_kind", sa.String(), nullable=True))
    op.add_column("proposal", sa.Column("agreed", sa.Boolean(), nullable=True))
    op.execute(KINDS)
    op.add_column("evaluation", sa.Column("normal", sa.String(), nullable=False, server_default=""))
    op.create_index("ix_evaluation_normal", "evaluation", ["normal"])
    op.drop_index("ix_evaluation_behaviour", "evaluation")
    op.create_index("ix_evaluation_stage_behaviour", "evaluation", ["stage", "behaviour"])
    op.create_table(
        "dictionary",
        sa.Column("checksum", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("completion", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("checksum", name="pk_dictionary"),
    )


def move_transcripts(calls: sa.Table) -> None:
    """Makes a call of everything that was said or paid for a proposal."""
    proposal = sa.table("proposal", *map(sa.column, ("number", "tokens_in", "tokens_out", "cost_usd")))
    transcript = sa.table("transcript", *map(sa.column, ("number", "prompt", "reply")))
    no_text = sa.literal(NO_TEXT, sa.LargeBinary())
    moved = (
        sa.select(proposal.c.number, sa.literal(0), sa.literal(""))
        .add_columns(proposal.c.tokens_in, proposal.c.tokens_out, sa.literal(0), proposal.c.cost_usd)
        .add_columns(sa.literal(0.0), sa.literal(0.0))
        .add_columns(sa.func.coalesce(transcript.c.prompt, no_text))
        .add_columns(sa.func.coalesce(transcript.c.reply, no_text))
        .select_from(proposal.outerjoin(transcript, transcript.c.number == proposal.c.number))
        .where(
            sa.or_(
                transcript.c.number.is_not(None),
                proposal.c.tokens_in > 0,
                proposal.c.tokens_out > 0,
                proposal.c.cost_usd > 0,
            )
        )
    )
    op.execute(calls.insert().from_select([column.name for column in calls.columns], moved))
