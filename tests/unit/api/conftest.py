"""The server that these tests talk to."""

from __future__ import annotations

from edge import blank_database, edge

__all__ = ["blank_database", "edge"]
