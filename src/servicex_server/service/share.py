"""How much one user may have under way."""

from __future__ import annotations

from servicex_server.db import request as requests
from servicex_server.db.session import Transaction
from servicex_server.errors import LimitReached
from servicex_server.model.ids import RequestId
from servicex_server.service.limits import Limits


def check_share(
    transaction: Transaction, owner: str, request_id: RequestId, n_files: int, limits: Limits
) -> None:
    """Raises LimitReached if the owner may not have that request with so many files beside the others."""
    n_requests, n_waiting = requests.count_open(transaction, owner, request_id)
    if n_requests >= limits.user_requests:
        message = (
            f"you have {n_requests:,} unfinished requests, and this server takes at most "
            f"{limits.user_requests:,} of one user; submit again when some have finished, or cancel some"
        )
        raise LimitReached(message)
    if n_waiting + n_files > limits.user_files:
        message = (
            f"{n_files:,} files beside the {n_waiting:,} that your unfinished requests wait for are more "
            f"than the {limits.user_files:,} that this server takes of one user; submit fewer, or again "
            "when some are done"
        )
        raise LimitReached(message)
