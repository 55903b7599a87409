"""What a result holds, in few numbers, to see that all methods give the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import uproot

_TOLERANCE = 1e-5
"""Of sums: masses are computed in single precision by some, and in double by others."""


@dataclass(frozen=True, slots=True)
class ColumnDigest:
    """The values of a column, with those of all lists one after the other.

    Attributes:
        magnitude: sum of their absolute values.
    """

    n_values: int
    total: float
    magnitude: float

    def __add__(self, other: ColumnDigest) -> ColumnDigest:
        return ColumnDigest(
            self.n_values + other.n_values, self.total + other.total, self.magnitude + other.magnitude
        )


@dataclass(frozen=True, slots=True)
class Digest:
    """The rows of a result."""

    n_rows: int
    columns: Mapping[str, ColumnDigest]

    def __add__(self, other: Digest) -> Digest:
        columns = {name: column + other.columns[name] for name, column in self.columns.items()}
        return Digest(self.n_rows + other.n_rows, columns)

    def find_difference(self, other: Digest) -> str | None:
        """In which way the other result differs; None if in none."""
        if self.n_rows != other.n_rows:
            return f"{other.n_rows} rows instead of {self.n_rows}"
        if odd := sorted(set(self.columns) ^ set(other.columns)):
            return f"other columns: {', '.join(odd[:5])}"
        for name, column in self.columns.items():
            found = other.columns[name]
            if column.n_values != found.n_values:
                return f"{found.n_values} values of {name} instead of {column.n_values}"
            off = abs(column.total - found.total) + abs(column.magnitude - found.magnitude)
            if not off <= _TOLERANCE * column.magnitude:
                return f"the values of {name} add up to {found.total} instead of {column.total}"
        return None


def digest_column(values: npt.NDArray[Any]) -> ColumnDigest:
    """The digest of flat values."""
    numbers = values.astype(np.float64)
    return ColumnDigest(len(numbers), float(numbers.sum()), float(np.abs(numbers).sum()))


def digest_file(path: Path, tree: str, columns: tuple[str, ...]) -> Digest:
    """The digest of a result file, Parquet or ROOT.

    Of a ROOT file only these columns are looked at: Snapshot adds counters to the columns asked for.
    """
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        groups = [_digest_table(file.read_row_group(number)) for number in range(file.num_row_groups)]
        return _add_up(groups)
    with uproot.open(path) as result:
        parts = result[tree].iterate(list(columns), step_size=100_000)
        return _add_up(_digest_rows(part) for part in parts)


def _add_up(parts: Iterable[Digest]) -> Digest:
    return reduce(Digest.__add__, parts)


def _digest_rows(rows: ak.Array) -> Digest:
    return Digest(len(rows), {name: _digest_array(rows[name]) for name in rows.fields})


def _digest_table(table: Any) -> Digest:
    columns = {name: _digest_array(ak.from_arrow(table[name])) for name in table.column_names}
    return Digest(table.num_rows, columns)


def _digest_array(array: ak.Array) -> ColumnDigest:
    return digest_column(ak.to_numpy(ak.drop_none(ak.flatten(array, axis=None))))
