"""Reads damaged ROOT files in a process with little memory, and tells what became of each."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import random
import resource
import struct
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import awkward as ak
import numpy as np
import uproot

from root_bytes import MemorySource
from servicex_server.errors import ServicexError, UnknownName
from servicex_server.run.read.root import RootFile
from servicex_server.run.read.ttree import TTreeColumns

MEMORY_BYTES = 2 * 1024**3
"""On top of what the process has after its imports."""
TIMEOUT_S = 60.0
COLUMNS = 6
NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x4000_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)

Region = tuple[int, int]


@dataclass(frozen=True)
class Sample:
    """A good file, and where in it are what kinds of bytes."""

    path: Path
    tree: str
    branches: tuple[str, ...]
    regions: tuple[tuple[Region, ...], ...]


def load_sample(path: Path) -> Sample:
    """The first TTree of a file."""
    data = path.read_bytes()
    with uproot.open({path: None}) as file:
        name = next(
            key for key, kind in file.classnames(recursive=True, cycle=False).items() if kind == "TTree"
        )
        key, tree = file.key(name), file[name]
        names = tuple(tree.keys(recursive=True, full_paths=True))
        places = [
            (int(branch.member("fBasketSeek")[number]), int(branch.member("fBasketBytes")[number]))
            for branch in tree.itervalues(recursive=True)
            for number in range(branch.num_baskets - len(branch.embedded_baskets))
        ]
        keys = file.file.fSeekInfo, file.file.fSeekInfo + 600
    headers = tuple((start, start + 90) for start, _ in places)
    payloads = tuple((start + 60, start + size) for start, size in places)
    # Where entries of varying size begin stands at the end of their baskets.
    tails = tuple((start + max(70, size - 60), start + size) for start, size in places)
    metadata = ((key.fSeekKey, key.fSeekKey + key.fNbytes),)
    ends = ((0, 100), keys, (max(0, len(data) - 400), len(data)))
    regions = tuple(region for region in (headers, payloads, tails, metadata, ends) if region)
    return Sample(path, name, names, regions)


def damaged(data: bytes, sample: Sample, rng: random.Random) -> bytes:
    """The file with one to three injuries."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        start, stop = rng.choice(rng.choice(sample.regions))
        place = min(rng.randrange(start, stop), len(changed) - 1)
        match rng.randrange(6):
            case 0:
                changed[place] = rng.randrange(256)
            case 1:
                changed[place] ^= 1 << rng.randrange(8)
            case 2:
                changed[place : place + 4] = struct.pack(">I", rng.choice(NUMBERS))
            case 3:
                changed[place : place + 8] = struct.pack(">Q", rng.choice(NUMBERS) << rng.choice((0, 31, 32)))
            case 4:
                changed[place : place + 32] = bytes([rng.choice((0, 255))]) * 32
            case 5 if rng.randrange(4) == 0:
                del changed[place:]
    return bytes(changed)


def read_damaged(sample: Sample, seed: int) -> str:
    """What reading gives: `right`, or the kind of error and its message; raises what should not happen."""
    rng = random.Random(seed)
    source = MemorySource(damaged(sample.path.read_bytes(), sample, rng), location=str(sample.path))
    columns = rng.sample(sample.branches, min(COLUMNS, len(sample.branches)))
    try:
        with RootFile(source) as file:
            tree = file.tree(sample.tree)
            if isinstance(tree, TTreeColumns):
                _read(tree, columns, rng)
    except UnknownName:
        return "right: the name is gone"
    except ServicexError as error:
        return f"{type(error).__name__}: {error.message}"
    return "right"


def _read(tree: TTreeColumns, columns: Sequence[str], rng: random.Random) -> None:
    tree.names()
    present = [name for name in columns if str(tree.type_of(name))]
    tree.n_bytes(present)
    tree.boundaries(present)
    # A damaged number of entries may be any; a chunk never is.
    start = rng.choice((0, max(0, min(3, tree.n_entries))))
    stop = min(tree.n_entries, start + 100_000)
    if stop <= start:
        return
    keep = np.array([rng.random() < 0.5 for _ in range(stop - start)])
    for mask, n_rows in ((None, stop - start), (keep, int(keep.sum()))):
        for name, array in tree.read(present, start, stop, mask).items():
            assert len(array) == n_rows, name
            assert ak.is_valid(array), name


def _serve(pipe: multiprocessing.connection.Connection) -> None:
    size_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size_bytes + MEMORY_BYTES, size_bytes + MEMORY_BYTES))
    while True:
        try:
            sample, seed = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(read_damaged(sample, seed))
        except Exception:  # noqa: BLE001 (what it is about)
            pipe.send(f"UNEXPECTED {traceback.format_exc()}")


class Reader:
    """The process that reads. It is replaced when it crashes or hangs."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def read(self, sample: Sample, seed: int) -> str:
        self._pipe.send((sample, seed))
        try:
            if self._pipe.poll(TIMEOUT_S):
                return str(self._pipe.recv())
            outcome = "UNEXPECTED hang"
        except EOFError:
            outcome = "UNEXPECTED crash"
        self.close()
        self._start()
        return outcome

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def outcomes(reader: Reader, samples: Sequence[Sample], seeds: range) -> Iterator[tuple[str, int, str]]:
    """The file, the seed and what became of it, for each seed."""
    for seed in seeds:
        sample = samples[seed % len(samples)]
        yield str(sample.path), seed, reader.read(sample, seed)
