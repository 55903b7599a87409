"""How a Parquet file is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Compression = Literal["none", "snappy", "gzip", "lz4_raw", "zstd"]

# Lowest, highest and default level of the codecs that have levels.
LEVELS: dict[str, tuple[int, int, int]] = {"gzip": (1, 12, 4), "zstd": (1, 22, 1)}


@dataclass(frozen=True, slots=True)
class ParquetOptions:
    """Choices that change the bytes of a file, never its values or its schema.

    Attributes:
        compression: codec of the pages.
        level: of the codec; None takes its default. Only gzip (1 to 12) and zstd (1 to 22) have levels.
        split_floats: whether floats are split into streams of first, second, … bytes. That makes files
            of full floats smaller, but Spark up to 4.0 cannot read them (in its fast, vectorized reader).
        dictionary: whether columns of few different values are numbered by a dictionary; rounded floats,
            as experiments store them, are few.
        page_values: about how many values a page holds.
        group_bytes: bytes of values in memory up to which chunks are gathered into one row group.
        group_rows: the same in rows.
        direct_bytes: a chunk of so many bytes or more becomes a row group of its own.
        split_bytes: a chunk of more bytes is split into several row groups.
    """

    compression: Compression = "zstd"
    level: int | None = None
    split_floats: bool = False
    dictionary: bool = True
    page_values: int = 256 * 1024
    group_bytes: int = 32 * 1024 * 1024
    group_rows: int = 1024 * 1024
    direct_bytes: int = 8 * 1024 * 1024
    split_bytes: int = 128 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.compression not in ("none", "snappy", "gzip", "lz4_raw", "zstd"):
            message = f"compression {self.compression!r} is none of none, snappy, gzip, lz4_raw, zstd"
            raise ValueError(message)
        if self.level is not None:
            if self.compression not in LEVELS:
                message = f"compression {self.compression!r} has no levels; gzip and zstd have"
                raise ValueError(message)
            lowest, highest, _ = LEVELS[self.compression]
            if not lowest <= self.level <= highest:
                message = f"level {self.level} of {self.compression} is not within {lowest} to {highest}"
                raise ValueError(message)
        sizes = (self.page_values, self.group_bytes, self.group_rows, self.direct_bytes, self.split_bytes)
        if min(sizes) < 1:
            message = "sizes of pages and row groups are at least 1"
            raise ValueError(message)
