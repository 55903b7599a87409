"""For tests that need a real sandbox: where none can be made they are skipped, and in CI they fail."""

from __future__ import annotations

import os

import pytest

from servicex_server.run.sandbox.available import why_unavailable


@pytest.fixture(scope="session")
def sandbox_here() -> None:
    """There is a sandbox."""
    reason = why_unavailable()
    if reason is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
