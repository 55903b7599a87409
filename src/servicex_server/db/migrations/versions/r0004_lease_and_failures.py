"""Leases: of several servers over one database one leads. And an index of failures that SQLite takes, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table, and makes the index anew."""
    op.create_table(
        "lease",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_lease")),
    )
    _replace_index(["request_number", "status", "created_at"])


def downgrade() -> None:
    """Drops the table, and makes the index as it was."""
    _replace_index(["request_number", "created_at"])
    op.drop_table("lease")


def _replace_index(columns: list[str]) -> None:
    op.drop_index("ix_file_result_failures", "file_result")
    op.create_index(
        "ix_file_result_failures",
        "file_result",
        columns,
        sqlite_where=sa.text("status = 'failure'"),
        postgresql_where=sa.text("status = 'failure'"),
    )
