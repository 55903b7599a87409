"""What finders have told of a data set, so that nothing counts twice and nothing is missed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = sa.text("lookup_status IN ('created', 'looking')")
KNOWN = sa.text("digest IS NOT NULL")


def upgrade() -> None:
    """Adds columns and indexes; data sets that are there already are file lists, whose rows keep none."""
    op.add_column("dataset", sa.Column("n_received", sa.Integer(), server_default="0", nullable=False))
    op.add_column("dataset", sa.Column("n_announced", sa.Integer(), nullable=True))
    op.add_column("dataset", sa.Column("last_batch", sa.String(length=64), nullable=True))
    op.add_column("dataset", sa.Column("failure", sa.Text(), nullable=True))
    op.create_index("ix_dataset_open", "dataset", ["last_updated"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.add_column("dataset_file", sa.Column("digest", sa.String(length=32), nullable=True))
    op.create_index(
        "uq_dataset_file_digest",
        "dataset_file",
        ["dataset_id", "digest"],
        unique=True,
        sqlite_where=KNOWN,
        postgresql_where=KNOWN,
    )


def downgrade() -> None:
    """Drops them."""
    op.drop_index("uq_dataset_file_digest", "dataset_file")
    op.drop_column("dataset_file", "digest")
    op.drop_index("ix_dataset_open", "dataset")
    for column in ("failure", "last_batch", "n_announced", "n_received"):
        op.drop_column("dataset", column)
