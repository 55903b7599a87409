"""How results may be compressed, for each format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from servicex_server.errors import InvalidRequest
from servicex_server.model.kinds import ResultFormat

Levels = tuple[int, int] | None
"""Lowest and highest level; None for a codec without levels."""

_ROOT: Mapping[str, Levels] = {"zstd": (1, 9), "lz4": (1, 9), "zlib": (1, 9), "lzma": (1, 6), "none": None}
CODECS: Mapping[ResultFormat, Mapping[str, Levels]] = {
    ResultFormat.PARQUET: {"zstd": (1, 12), "lz4": None, "snappy": None, "gzip": (1, 9), "none": None},
    ResultFormat.ROOT_FILE: _ROOT,
    ResultFormat.ROOT_RNTUPLE: _ROOT,
    ResultFormat.ARROW: {"zstd": (1, 12), "lz4": None, "none": None},
    ResultFormat.HDF5: {"gzip": (1, 9), "none": None},
}
"""What each format takes, its default first. Higher levels exist, but need a worker's memory or minutes."""

_TEXT = re.compile(r"([a-z0-9]{1,16})(?::([0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class Compression:
    """A codec by its name, and its level; None for the level that the codec's format makes usual."""

    codec: str
    level: int | None = None

    def __str__(self) -> str:
        return self.codec if self.level is None else f"{self.codec}:{self.level}"


def parse_compression(text: str, result_format: ResultFormat) -> Compression:
    """The compression in a text such as `zstd:3` or `none`.

    Raises:
        InvalidRequest: no codec, or level, of this format; the text tells those that are.

    >>> parse_compression("zstd:3", ResultFormat.PARQUET)
    Compression(codec='zstd', level=3)
    """
    codecs = CODECS[result_format]
    match = _TEXT.fullmatch(text)
    if match is not None and match[1] in codecs:
        compression = Compression(match[1], None if match[2] is None else int(match[2]))
        levels = codecs[compression.codec]
        if compression.level is None or (levels and levels[0] <= compression.level <= levels[1]):
            return compression
    allowed = ", ".join(_describe(codec, levels) for codec, levels in codecs.items())
    message = f"compression {text[:64]!r} is not offered for {result_format.value}; allowed: {allowed}"
    raise InvalidRequest(message)


def default_compression(result_format: ResultFormat) -> Compression:
    """What is used where nobody asks for another."""
    return Compression(next(iter(CODECS[result_format])))


def _describe(codec: str, levels: Levels) -> str:
    return codec if levels is None else f"{codec} ({codec}:{levels[0]} to {codec}:{levels[1]})"
