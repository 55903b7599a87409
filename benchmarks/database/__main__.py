"""`python -m benchmarks.database`."""

from __future__ import annotations

import sys
from pathlib import Path

# The starter of PostgreSQL is shared with the tests.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from benchmarks.database.command import main

main()
