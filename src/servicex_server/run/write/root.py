"""ROOT results: real TTrees, or RNTuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import uproot

from servicex_server.errors import FormatError
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import UNNAMED_COLUMN, BoundOutput
from servicex_server.plan.types import Type
from servicex_server.run.write.canonical import columns_of, schema_of, to_canonical
from servicex_server.run.write.fit import ROOT_UNNAMED_BRANCH, check_columns, check_equal, ttree_branches
from servicex_server.run.write.protocol import Encoded

_CODECS = {"zstd": uproot.ZSTD, "lz4": uproot.LZ4, "zlib": uproot.ZLIB, "lzma": uproot.LZMA}


class RootWriter:
    """One ROOT file with a tree for each output tree name."""

    def __init__(self, path: Path, result_format: ResultFormat, compression: Compression) -> None:
        self._format = result_format
        # As an open file: uproot would take a colon in the path for the name of an object.
        self._handle = path.open("w+b")
        self._file = uproot.recreate(self._handle, compression=_to_uproot(compression))
        self._schemas: dict[str, Mapping[str, Type]] = {}
        self._trees: dict[str, Any] = {}
        self._tree: Any = None

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        name = output.output_tree
        schema = schema_of(empty)
        check_columns(schema, self._format)
        if name in self._schemas:
            check_equal([self._schemas[name], schema], f"several results go into the tree {name!r}")
        else:
            self._schemas[name] = schema
            self._trees[name] = self._make_tree(name, schema, empty)
        self._tree = self._trees[name]

    def _make_tree(self, name: str, schema: Mapping[str, Type], empty: ak.Array) -> Any:
        columns = self._named(empty)
        try:
            if self._format is ResultFormat.ROOT_RNTUPLE:
                return self._file.mkrntuple(name, _record(columns).layout.form)
            types = {column: array.type for column, array in columns.items()}
            return self._file.mktree(name, types, counter_name=_counter_names(schema))
        except (TypeError, ValueError, NotImplementedError) as error:
            message = f"{self._format.value} cannot hold {', '.join(columns)}: {error}"
            raise FormatError(message) from error

    def encode(self, rows: ak.Array) -> Encoded:
        columns = self._named(rows)
        n_bytes = sum(array.nbytes for array in columns.values())
        content = _record(columns) if self._format is ResultFormat.ROOT_RNTUPLE else columns
        return Encoded(len(rows), n_bytes, content)

    def write(self, encoded: Encoded) -> None:
        if encoded.n_rows:
            self._tree.extend(encoded.content)

    def _named(self, rows: ak.Array) -> dict[str, ak.Array]:
        columns = dict(columns_of(to_canonical(rows)))
        if UNNAMED_COLUMN not in columns:
            return columns
        array = columns[UNNAMED_COLUMN]
        if self._format is ResultFormat.ROOT_FILE and array.fields:
            # uproot names the branches of a column without a name by the fields alone.
            return columns
        return {ROOT_UNNAMED_BRANCH: array}

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None:
        """Copies objects bit by bit, with the description of their classes."""
        by_folder: dict[str, set[str]] = {}
        for key in keys:
            folder, _, name = key.rpartition("/")
            by_folder.setdefault(folder, set()).add(name)
        try:
            for folder, names in by_folder.items():
                source = directory[folder] if folder else directory
                target = self._file.mkdir(folder) if folder else self._file
                target.copy_from(source, filter_name=names.__contains__)
                if "" in target.keys(cycle=False):
                    # uproot makes a folder without a name for what lies in none.
                    del target[""]
        except (NotImplementedError, ValueError, TypeError) as error:
            message = f"cannot copy {', '.join(keys[:5])} into a ROOT file: {error}"
            raise FormatError(message) from error

    def finish(self) -> None:
        self._file.close()
        self._handle.close()

    def abandon(self) -> None:
        self._handle.close()


def _to_uproot(compression: Compression) -> Any:
    return None if compression.codec == "none" else _CODECS[compression.codec](compression.level or 1)


def _record(columns: Mapping[str, ak.Array]) -> ak.Array:
    return ak.zip(dict(columns), depth_limit=1)


def _counter_names(schema: Mapping[str, Type]) -> Callable[[str], str]:
    """`n` + name for the branch that counts a list, evading branches of that name."""
    taken = {branch for branches in ttree_branches(schema).values() for branch in branches}

    def name_counter(counted: str) -> str:
        name = f"n{counted}"
        while name in taken:
            name = f"n_{name}"
        return name

    return name_counter
