"""`python -m servicex_server.run`: a worker process; its settings come through the standard input."""

from __future__ import annotations

from servicex_server.run.serve import main

if __name__ == "__main__":
    main()
