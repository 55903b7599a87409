"""Results that requests share, and what a submit asks about its user's other requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.String(1024).with_variant(sa.String(1024, collation="C"), "postgresql")
UNFINISHED = "finish_time IS NULL"
DOOMED = "doomed_at IS NOT NULL"


def upgrade() -> None:
    """Adds a table, three columns and two indexes; results that are there already are shared by nobody."""
    op.create_table(
        "shared_object",
        sa.Column("store_key", KEY, nullable=False),
        sa.Column("n_results", sa.Integer(), nullable=False),
        sa.Column("doomed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("store_key", name=op.f("pk_shared_object")),
    )
    op.create_index(
        "ix_shared_object_doomed_at",
        "shared_object",
        ["doomed_at"],
        sqlite_where=sa.text(DOOMED),
        postgresql_where=sa.text(DOOMED),
    )
    op.add_column("request", sa.Column("uses_cache", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("request", sa.Column("cached", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "file_result", sa.Column("is_cached", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.create_index(
        "ix_request_unfinished_owner",
        "request",
        ["owner"],
        sqlite_where=sa.text(UNFINISHED),
        postgresql_where=sa.text(UNFINISHED),
    )
    op.create_index("ix_request_dataset_id_number", "request", ["dataset_id", "number"])
    op.drop_index("ix_request_dataset_id", "request")


def downgrade() -> None:
    """Drops them. Objects that were shared stay in the store, where nobody knows them."""
    op.create_index("ix_request_dataset_id", "request", ["dataset_id"])
    op.drop_index("ix_request_dataset_id_number", "request")
    op.drop_index("ix_request_unfinished_owner", "request")
    op.drop_column("file_result", "is_cached")
    op.drop_column("request", "cached")
    op.drop_column("request", "uses_cache")
    op.drop_index("ix_shared_object_doomed_at", "shared_object")
    op.drop_table("shared_object")
