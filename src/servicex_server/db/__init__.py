"""The truth: requests, data sets, results and attempts in SQLite or PostgreSQL.

In: model dataclasses. Out: model dataclasses; table classes never leave this package. One module of
queries per noun; a query is a plain function of a connection, and `session.Database` runs it in a
transaction off the event loop. May import model and errors; nobody else imports sqlalchemy.
"""

from __future__ import annotations
