"""Files that are opened again: one request, nothing parsed, and never another file's content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot
from uproot.behaviors.TBranch import TBranch

from root_bytes import MemorySource
from servicex_server.run.read import root as module
from servicex_server.run.read.kept import KeptFiles
from servicex_server.run.read.root import RootFile


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> KeptFiles:
    files = KeptFiles(most_files=2)
    monkeypatch.setattr(module, "kept_files", files)
    return files


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    path = tmp_path / "x.root"
    with uproot.recreate(path, compression=None) as file:
        file.mktree("Events", {"x": "f8", "y": "f8"})
        file["Events"].extend({"x": np.arange(5.0), "y": np.arange(5.0) + 100})
    return path.read_bytes()


def read(source: MemorySource, column: str = "x") -> list[float]:
    with RootFile(source) as file:
        tree = file.tree("Events")
        assert tree.names() == ("x", "y")
        return list(tree.read([column], 0, tree.n_entries)[column].to_list())


def test_the_second_time_nothing_is_parsed(
    kept: KeptFiles, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = MemorySource(content), MemorySource(content)
    values = read(first)

    def fail(*_arguments: object) -> None:
        pytest.fail("a branch is parsed again")

    monkeypatch.setattr(TBranch, "postprocess", fail)
    assert read(second) == values
    assert second.n_requests == 2  # what is known, and the basket
    assert first.n_requests > 2
    assert second.bytes_read <= first.bytes_read


def test_bytes_are_counted_anew(kept: KeptFiles, content: bytes) -> None:
    counts = []
    for _ in range(2):
        with RootFile(MemorySource(content)) as file:
            file.tree("Events").read(["x"], 0, 5)
            counts.append(file.bytes_decompressed)
    assert counts == [40, 40]


def test_other_content_of_the_same_name_and_size_is_noticed(kept: KeptFiles, content: bytes) -> None:
    other = content.replace(b"\x01y", b"\x01z")
    assert other != content
    read(MemorySource(content))
    with RootFile(MemorySource(other)) as file:
        assert "z" in file.tree("Events").names()
    assert read(MemorySource(content), "y") == [100, 101, 102, 103, 104]


def test_other_values_are_read_from_the_new_source(kept: KeptFiles, content: bytes) -> None:
    values = np.arange(5.0, dtype=">f8").tobytes()
    assert values in content
    read(MemorySource(content))
    others = (np.arange(5.0) + 7).astype(">f8").tobytes()
    assert read(MemorySource(content.replace(values, others))) == [7, 8, 9, 10, 11]


def test_a_file_that_is_open_twice_is_opened_twice(kept: KeptFiles, content: bytes) -> None:
    read(MemorySource(content))
    with RootFile(MemorySource(content)) as one, RootFile(MemorySource(content)) as two:
        assert one.directory is not two.directory
        assert one.tree("Events").read(["x"], 0, 5)["x"].to_list() == [0, 1, 2, 3, 4]
        assert two.tree("Events").read(["x"], 0, 5)["x"].to_list() == [0, 1, 2, 3, 4]


def test_a_file_that_failed_is_not_kept(kept: KeptFiles, content: bytes) -> None:
    source = MemorySource(content)
    with pytest.raises(ZeroDivisionError), RootFile(source):
        raise ZeroDivisionError
    assert kept.take(MemorySource(content)) is None


def test_few_files_are_kept(kept: KeptFiles, content: bytes) -> None:
    sources = [MemorySource(content, location=f"/{number}") for number in range(3)]
    for source in sources:
        read(source)
    assert kept.take(sources[0]) is None
    assert kept.take(sources[1]) is not None
    assert kept.take(sources[2]) is not None


def test_large_metadata_are_not_kept(
    kept: KeptFiles, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = KeptFiles(most_bytes=100)
    monkeypatch.setattr(module, "kept_files", small)
    read(MemorySource(content))
    assert small.take(MemorySource(content)) is None
