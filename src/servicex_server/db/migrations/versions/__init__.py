"""Alembic's migrations, in order."""

from __future__ import annotations
