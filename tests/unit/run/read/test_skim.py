"""The walk over a tree's metadata, on hostile ones too."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import uproot
from uproot.source.cursor import Cursor

from servicex_server.run.read.skim import Node, NotAsExpected, Walk, paths


@pytest.fixture(scope="module")
def metadata(samples: Path) -> tuple[bytes, int, int]:
    """The metadata of a tree with nested branches, the length of its key, and where its branches are."""
    with uproot.open({samples / "edm4hep.root": None}) as file:
        key = file.key("podio_metadata")
        chunk, _ = key.get_uncompressed_chunk_cursor()
        found: list[int] = []

        class Spy:
            def read(self, _chunk: object, cursor: Cursor, *_others: object) -> list[object]:
                found.append(cursor.index)
                raise StopIteration

        class File:
            def class_named(self, name: str, version: object = None) -> object:
                return Spy() if name == "TObjArray" else file.file.class_named(name, version)

            def __getattr__(self, name: str) -> object:
                return getattr(file.file, name)

        with pytest.raises(StopIteration):
            file.file.class_named("TTree").read(
                chunk, Cursor(0, -key.fKeylen), {"breadcrumbs": ()}, File(), file.file, key
            )
        return chunk.raw_data.tobytes(), int(key.fKeylen), found[0]


def walk(data: bytes, key_bytes: int, position: int) -> tuple[Node, ...]:
    found = Walk(data, key_bytes)
    return found.branches(position, found.skip_object(position))


def test_names_of_all_levels_in_order(samples: Path, metadata: tuple[bytes, int, int]) -> None:
    with uproot.open({samples / "edm4hep.root": "podio_metadata"}) as tree:
        assert list(paths(walk(*metadata))) == tree.keys(recursive=True, full_paths=True)


def test_damaged_metadata_are_walked_or_refused(metadata: tuple[bytes, int, int]) -> None:
    data, key_bytes, position = metadata
    rng = random.Random(5)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        place = rng.randrange(position, len(damaged) - 4)
        damaged[place : place + 4] = rng.choice((b"\xff" * 4, bytes(4), rng.randbytes(4), b"\x40\0\0\0"))
        try:
            nodes = walk(bytes(damaged), key_bytes, position)
        except NotAsExpected:
            refused += 1
            continue
        for node in nodes:
            assert 0 < node.start < node.stop <= len(data)
    assert refused > 10


@pytest.mark.parametrize("size", [0, 3, 100])
def test_truncated_metadata_are_refused(metadata: tuple[bytes, int, int], size: int) -> None:
    data, key_bytes, position = metadata
    with pytest.raises(NotAsExpected):
        walk(data[: position + size], key_bytes, position)
