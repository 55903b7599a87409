"""Local files, read into bytes of their own or into memory that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from descriptor_reuse import overtaken_reads
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


def test_a_file_closed_while_it_is_read_never_gives_the_bytes_of_another(
    source: LocalSource, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * len(CONTENT))
    with overtaken_reads(source.close, other) as overtaken:
        assert source.read_ranges([(10, 20)]) == [CONTENT[10:20]]
    assert overtaken == ["pread"]
    with pytest.raises(SourceUnavailable, match="it has been closed"):
        source.read_ranges([(10, 20)])
    source = LocalSource(source.location, CALLERS_OWN)
    buffer = bytearray(10)
    with overtaken_reads(source.close, other) as overtaken:
        source.read_into([(10, 20)], memoryview(buffer))
    assert overtaken == ["preadv"]
    assert bytes(buffer) == CONTENT[10:20]
    with pytest.raises(SourceUnavailable, match="it has been closed"):
        source.read_into([(10, 20)], memoryview(buffer))


def test_a_closed_file_is_given_back_to_the_system(source: LocalSource, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"")
    for overtakes in (False, True):
        source = LocalSource(source.location, CALLERS_OWN)
        if overtakes:
            with overtaken_reads(source.close, other):
                source.read_ranges([(0, 10)])
        source.close()
        source.close()
    opened = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert opened.count(Path(source.location)) == 1, "the fixture's own"
