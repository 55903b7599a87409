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

SPLIT_FORMATS = frozenset({ResultFormat.PARQUET})
"""Formats in which floats may be split into streams of first, second, … bytes before they are compressed."""
_SPLIT = "+split"

_TEXT = re.compile(r"([a-z0-9]{1,16})(?::([0-9]{1,4}))?(\+split)?")


@dataclass(frozen=True, slots=True)
class Compression:
    """How bytes become fewer.

    Attributes:
        codec: its name.
        level: of the codec; None for the one that the codec's format makes usual.
        is_split: whether floats are split into streams of first, second, … bytes before.
    """

    codec: str
    level: int | None = None
    is_split: bool = False

    def __str__(self) -> str:
        level = "" if self.level is None else f":{self.level}"
        return self.codec + level + (_SPLIT if self.is_split else "")


def parse_compression(text: str, result_format: ResultFormat) -> Compression:
    """The compression in a text such as `zstd:3`, `zstd:3+split` or `none`.

    Raises:
        InvalidRequest: no codec, or level, of this format; the text tells those that are.

    >>> parse_compression("zstd:3", ResultFormat.PARQUET)
    Compression(codec='zstd', level=3, is_split=False)
    """
    codecs = CODECS[result_format]
    match = _TEXT.fullmatch(text)
    if match is not None and match[1] in codecs and (not match[3] or _may_split(match[1], result_format)):
        level = None if match[2] is None else int(match[2])
        compression = Compression(match[1], level, is_split=match[3] is not None)
        levels = codecs[compression.codec]
        if compression.level is None or (levels and levels[0] <= compression.level <= levels[1]):
            return compression
    allowed = ", ".join(_describe(codec, levels) for codec, levels in codecs.items())
    if result_format in SPLIT_FORMATS:
        allowed += f"; {_SPLIT} after all but none splits floats into streams of bytes"
    message = f"compression {text[:64]!r} is not offered for {result_format.value}; allowed: {allowed}"
    raise InvalidRequest(message)


def default_compression(result_format: ResultFormat) -> Compression:
    """What is used where nobody asks for another."""
    return Compression(next(iter(CODECS[result_format])))


def _may_split(codec: str, result_format: ResultFormat) -> bool:
    return result_format in SPLIT_FORMATS and codec != "none"


def _describe(codec: str, levels: Levels) -> str:
    return codec if levels is None else f"{codec} ({codec}:{levels[0]} to {codec}:{levels[1]})"
