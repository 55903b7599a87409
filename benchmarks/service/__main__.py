"""`python -m benchmarks.service`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The starters of servers are shared with the examples and the tests.
sys.path[:0] = [str(ROOT), str(ROOT / "examples"), str(ROOT / "tests")]
# The servers' processes import what does nothing from here.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

from benchmarks.service.command import main  # noqa: E402  after the paths are set

sys.exit(main(sys.argv[1:]))
