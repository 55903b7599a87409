"""The service around the engine, beside its targets: `python -m benchmarks.service`, or `make bench-service`.

`load` sends requests, `noop` is a server whose transforms do nothing, `machine` reads CPU times and memory.
`start`, `embedded`, `large` and `deployed` measure; `report` holds the targets and shows what was found.
"""

from __future__ import annotations
