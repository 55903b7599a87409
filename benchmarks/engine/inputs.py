"""The input files: the same events in every codec, made once and kept while there is room.

ROOT writes them where it is installed; else uproot does, whose files have fewer and larger baskets and
RNTuples whose columns share no offsets.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.engine import write_root, write_uproot

Codec = Literal["ZLIB", "ZSTD", "LZ4", "LZMA", "RNTuple"]
CODECS: tuple[Codec, ...] = ("ZLIB", "ZSTD", "LZ4", "LZMA", "RNTuple")
TREE = "Events"

SETTINGS: dict[Codec, int] = {"ZLIB": 101, "ZSTD": 505, "LZ4": 404, "LZMA": 209, "RNTuple": 505}
"""ROOT's number for codec and level: https://root.cern.ch/doc/master/structROOT_1_1RCompressionSetting.html."""

_SLOW_FRACTION = 0.4
"""Of the events in LZMA, which is ten times as slow as the others."""
_VERSION = 1
"""Raised when the events change, so that files of before are not taken for the new ones."""


@dataclass(frozen=True, slots=True)
class Input:
    """One input file.

    Attributes:
        codec: its compression; "RNTuple" is ZSTD in the other container.
    """

    codec: Codec
    n_events: int
    path: Path


def has_root() -> bool:
    """Whether ROOT is installed; does not import it."""
    return importlib.util.find_spec("ROOT") is not None


def input_file(folder: Path, codec: Codec, n_events: int, *, with_root: bool) -> Input:
    """The file with so many events, fewer for LZMA; made if it is not there."""
    if codec == "LZMA":
        n_events = max(1, int(n_events * _SLOW_FRACTION))
    writer = "root" if with_root else "uproot"
    path = folder / f"{codec.lower()}-{n_events}-{writer}-{_VERSION}.root"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        if codec == "RNTuple":
            _write_ntuple(unfinished, folder, n_events, with_root=with_root)
        elif with_root:
            write_root.write_tree(unfinished, TREE, n_events, SETTINGS[codec])
        else:
            write_uproot.write_tree(unfinished, TREE, n_events, codec)
        unfinished.rename(path)
    return Input(codec, n_events, path)


def _write_ntuple(path: Path, folder: Path, n_events: int, *, with_root: bool) -> None:
    if with_root:
        tree = input_file(folder, "ZSTD", n_events, with_root=True).path
        write_root.write_ntuple(path, TREE, tree, SETTINGS["RNTuple"])
    else:
        write_uproot.write_ntuple(path, TREE, n_events)


def warm(path: Path) -> None:
    """Reads the file once, so that it is in the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def make_room(folder: Path, keep: set[Path], most_bytes: int) -> None:
    """Deletes other files than these, those used longest ago first, until the folder is small enough."""
    files = sorted(folder.glob("*.root"), key=lambda path: path.stat().st_mtime)
    excess = sum(path.stat().st_size for path in files) - most_bytes
    for path in files:
        if excess > 0 and path not in keep:
            excess -= path.stat().st_size
            path.unlink()
