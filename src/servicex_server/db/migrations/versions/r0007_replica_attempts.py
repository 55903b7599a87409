"""What happened at the replicas of each file."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Adds a column to two tables; rows that are there already have nothing in them."""
    op.add_column("file_result", sa.Column("replicas", DOCUMENT, nullable=True))
    op.add_column("attempt", sa.Column("replicas", DOCUMENT, nullable=True))


def downgrade() -> None:
    """Drops the columns."""
    op.drop_column("attempt", "replicas")
    op.drop_column("file_result", "replicas")
