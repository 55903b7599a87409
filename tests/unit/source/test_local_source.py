"""Local files, read into bytes of their own or into memory that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicex_server.errors import SourceCorrupt, SourceUnavailable
from servicex_server.source.local import LocalSource
from servicex_server.source.policy import CALLERS_OWN
from servicex_server.source.protocol import BufferSource

CONTENT = bytes(range(256)) * 10


@pytest.fixture
def source(tmp_path: Path) -> LocalSource:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return LocalSource(str(path), CALLERS_OWN)


def test_ranges_go_one_after_the_other_into_the_buffer(source: LocalSource) -> None:
    assert isinstance(source, BufferSource)
    buffer = bytearray(30)
    source.read_into([(100, 110), (5, 5), (0, 7)], memoryview(buffer))
    assert bytes(buffer[:17]) == CONTENT[100:110] + CONTENT[:7]
    assert buffer[17:] == bytes(13)
    assert source.bytes_read == 17
    assert source.read_ranges([(100, 110), (0, 7)]) == [CONTENT[100:110], CONTENT[:7]]
    assert source.bytes_read == 34


def test_bytes_that_are_not_there_are_an_error(source: LocalSource) -> None:
    buffer = memoryview(bytearray(100))
    with pytest.raises(SourceCorrupt, match="outside the file"):
        source.read_into([(2550, 2570)], buffer)
    Path(source.location).write_bytes(b"short")
    with pytest.raises(SourceUnavailable, match="became shorter"):
        source.read_into([(0, 100)], buffer)
    with pytest.raises(SourceUnavailable, match="became shorter"):
        source.read_ranges([(0, 100)])
