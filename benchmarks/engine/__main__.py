"""`python -m benchmarks.engine`: see the package."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Not above: this module is loaded in the process of each method, too, whose memory is measured.
    from benchmarks.engine.command import main

    sys.exit(main())
