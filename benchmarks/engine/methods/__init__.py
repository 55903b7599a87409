"""Ways to answer a query: each takes a file and leaves a result file, with what a
long-lived process may keep.

In goes a `Task`; `prepare` does what such a process does once per query, `answer` what it does per file.
"""

from __future__ import annotations
