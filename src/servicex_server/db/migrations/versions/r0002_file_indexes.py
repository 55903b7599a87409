"""Indexes by which a file list can go: deleting a file asks who refers to it."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the indexes."""
    op.create_index("ix_attempt_file_id", "attempt", ["file_id"])
    op.create_index("ix_file_result_file_id", "file_result", ["file_id"])


def downgrade() -> None:
    """Drops the indexes."""
    op.drop_index("ix_file_result_file_id", "file_result")
    op.drop_index("ix_attempt_file_id", "attempt")
