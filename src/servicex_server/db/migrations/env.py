"""Alembic's entry: migrates over the connection that `schema.upgrade` passes."""

from __future__ import annotations

from alembic import context

from servicex_server.db.orm import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite cannot alter most things in place; alembic then copies the table.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
