"""`python -m servicex_server` is the command `servicex-server`."""

from __future__ import annotations

from servicex_server.cli import main

if __name__ == "__main__":
    main()
