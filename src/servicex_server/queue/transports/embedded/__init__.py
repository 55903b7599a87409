"""The queue of a single machine: the server hands out leases to worker processes over a Unix socket.

No broker: what waits lives in the server's memory and is refilled from the database at start. The server
side is `EmbeddedQueue`, the worker side `connect`.
"""

from __future__ import annotations

from servicex_server.queue.transports.embedded.client import connect
from servicex_server.queue.transports.embedded.server import EmbeddedQueue

__all__ = ["EmbeddedQueue", "connect"]
