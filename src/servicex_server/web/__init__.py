"""Pages for people: server-rendered, escaped, without scripts and without anything from elsewhere.

In: requests of browsers. Out: HTML. Calls the same `service` functions as `api`, which it may not import.
"""

from __future__ import annotations

from servicex_server.web.install import install_pages

__all__ = ["install_pages"]
