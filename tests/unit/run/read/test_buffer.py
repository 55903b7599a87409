"""Memory that is used again."""

from __future__ import annotations

import numpy as np
import pytest

from servicex_server.run.read import buffer as buffer_module
from servicex_server.run.read.buffer import KeptBuffer


def test_memory_is_used_again_and_what_is_large_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_module, "KEPT_BYTES", 100)
    buffer = KeptBuffer()
    small = buffer.room(80)
    assert len(small) >= 80
    assert np.shares_memory(buffer.room(10), small)
    large = buffer.room(1000)
    assert len(large) >= 1000
    assert np.shares_memory(buffer.room(101), large)
    assert len(buffer.room(90)) < 1000
