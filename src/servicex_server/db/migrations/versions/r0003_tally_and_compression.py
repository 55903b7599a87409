"""What is counted of each file, and how its result is compressed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Adds a column to two tables; rows that are there already have nothing in them."""
    op.add_column("request", sa.Column("compression", sa.String(length=32), nullable=True))
    op.add_column("file_result", sa.Column("tally", DOCUMENT, nullable=True))


def downgrade() -> None:
    """Drops the columns."""
    op.drop_column("file_result", "tally")
    op.drop_column("request", "compression")
