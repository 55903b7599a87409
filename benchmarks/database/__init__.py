"""The database alone, at a thousand and at a million results: `python -m benchmarks.database`.

`fill` makes the rows, `hot` names the queries that must not become slow with them, `command` measures both
dialects. A test of the long lane looks at the plans of the same queries.
"""

from __future__ import annotations
