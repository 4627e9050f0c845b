"""Which model made a proposal, what that took, how it was thought about, and what the grid gained by it."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    add_column("proposal", "model", sa.String(), "")
    for name in ("tokens", "tokens_reasoning", "changed"):
        add_column("proposal", name, sa.Integer(), "0")
    add_column("proposal", "cost_usd", sa.Double(), "0")
    add_column("proposal", "patterns", sa.String(), "")
    op.add_column("proposal", sa.Column("gain", sa.Double(), nullable=True))
    add_column("request", "choice", sa.String(), "")
    add_column("request", "drafts", sa.Integer(), "1")
    add_column("model_call", "operator", sa.String(), "")
    add_column("model_call", "sample", sa.Integer(), "0")
    op.create_index("ix_model_call_operator_number", "model_call", ["operator", "number"])
    op.drop_index("ix_model_call_cost", "model_call")
    summed = ["model", "operator", "tokens_in", "tokens_out", "tokens_reasoning", "cost_usd"]
    op.create_index("ix_model_call_cost", "model_call", summed)


def add_column(table: str, name: str, kind: "sa.types.TypeEngine[Any]", default: str) -> None:
    op.add_column(table, sa.Column(name, kind, nullable=False, server_default=default))
