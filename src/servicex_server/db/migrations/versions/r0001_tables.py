"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BYTE_ORDERED = sa.String(1024).with_variant(sa.String(1024, collation="C"), "postgresql")


def upgrade() -> None:
    """Creates every table."""
    _create_dataset()
    _create_principal()
    _create_dataset_file()
    _create_request()
    _create_attempt()
    _create_file_result()


def _create_dataset() -> None:
    op.create_table(
        "dataset",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("did_finder", sa.String(length=64), nullable=False),
        sa.Column("n_files", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_events", sa.BigInteger(), nullable=False),
        sa.Column("last_used", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lookup_status", sa.String(length=32), nullable=False),
        sa.Column("is_stale", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset")),
    )
    op.create_index(
        "uq_dataset_fresh_name",
        "dataset",
        ["name"],
        unique=True,
        sqlite_where=sa.text("is_stale = 0"),
        postgresql_where=sa.text("NOT is_stale"),
    )


def _create_principal() -> None:
    op.create_table(
        "principal",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_principal")),
        sa.UniqueConstraint("name", name=op.f("uq_principal_name")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_principal_token_sha256")),
    )


def _create_dataset_file() -> None:
    op.create_table(
        "dataset_file",
        sa.Column("id", KEY, nullable=False),
        sa.Column("dataset_id", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("paths", DOCUMENT, nullable=False),
        sa.Column("adler32", sa.String(length=32), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_events", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["dataset.id"],
            name=op.f("fk_dataset_file_dataset_id_dataset"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_file")),
        sa.UniqueConstraint("dataset_id", "position", name=op.f("uq_dataset_file_dataset_id_position")),
    )


def _create_request() -> None:
    op.create_table(
        "request",
        sa.Column("number", KEY, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("owner", sa.String(length=255), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("did", sa.Text(), nullable=False),
        sa.Column("dataset_id", KEY, nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("codegen", sa.String(length=64), nullable=False),
        sa.Column("tree_name", sa.Text(), nullable=True),
        sa.Column("result_format", sa.String(length=32), nullable=False),
        sa.Column("result_destination", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("is_fileset_complete", sa.Boolean(), nullable=False),
        sa.Column("is_preflight_pending", sa.Boolean(), nullable=False),
        sa.Column("failure_info", sa.Text(), nullable=True),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("submit_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("active_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finish_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("access_key", sa.String(length=64), nullable=False),
        sa.Column("secret_key", sa.String(length=64), nullable=False),
        sa.Column("renamed", DOCUMENT, nullable=False),
        sa.Column("last_result_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("min_seconds", sa.Float(), nullable=True),
        sa.Column("max_seconds", sa.Float(), nullable=True),
        sa.Column("total_seconds", sa.Float(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_events", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["dataset.id"], name=op.f("fk_request_dataset_id_dataset")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_request")),
        sa.UniqueConstraint("access_key", name=op.f("uq_request_access_key")),
        sa.UniqueConstraint("id", name=op.f("uq_request_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_request_dataset_id"), "request", ["dataset_id"], unique=False)
    op.create_index(
        "ix_request_deleted_at",
        "request",
        ["deleted_at"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index("ix_request_finish_time", "request", ["finish_time"], unique=False)
    op.create_index("ix_request_owner_number", "request", ["owner", "number"], unique=False)
    op.create_index(
        "ix_request_unfinished",
        "request",
        ["number"],
        unique=False,
        sqlite_where=sa.text("finish_time IS NULL"),
        postgresql_where=sa.text("finish_time IS NULL"),
    )


def _create_attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("number", KEY, nullable=False),
        sa.Column("request_number", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("entry_start", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["dataset_file.id"], name=op.f("fk_attempt_file_id_dataset_file")
        ),
        sa.ForeignKeyConstraint(
            ["request_number"],
            ["request.number"],
            name=op.f("fk_attempt_request_number_request"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_attempt")),
        sa.UniqueConstraint(
            "request_number",
            "file_id",
            "entry_start",
            "attempt",
            name=op.f("uq_attempt_request_number_file_id_entry_start_attempt"),
        ),
    )


def _create_file_result() -> None:
    op.create_table(
        "file_result",
        sa.Column("number", KEY, nullable=False),
        sa.Column("request_number", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("entry_start", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("object_name", BYTE_ORDERED, nullable=True),
        sa.Column("store_key", sa.String(length=1024), nullable=True),
        sa.Column("etag", sa.String(length=255), nullable=True),
        sa.Column("modified", sa.DateTime(timezone=True), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_events_in", sa.BigInteger(), nullable=False),
        sa.Column("n_events_out", sa.BigInteger(), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["dataset_file.id"], name=op.f("fk_file_result_file_id_dataset_file")
        ),
        sa.ForeignKeyConstraint(
            ["request_number"],
            ["request.number"],
            name=op.f("fk_file_result_request_number_request"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_file_result")),
        sa.UniqueConstraint(
            "request_number",
            "file_id",
            "entry_start",
            name=op.f("uq_file_result_request_number_file_id_entry_start"),
        ),
        sa.UniqueConstraint(
            "request_number", "object_name", name=op.f("uq_file_result_request_number_object_name")
        ),
    )
    op.create_index(
        "ix_file_result_failures",
        "file_result",
        ["request_number", "created_at"],
        unique=False,
        sqlite_where=sa.text("status = 'failure'"),
        postgresql_where=sa.text("status = 'failure'"),
    )
    op.create_index(
        "ix_file_result_request_number_created_at",
        "file_result",
        ["request_number", "created_at"],
        unique=False,
    )


def downgrade() -> None:
    """Drops every table."""
    for table in ("file_result", "attempt", "request", "dataset_file", "dataset", "principal"):
        op.drop_table(table)
