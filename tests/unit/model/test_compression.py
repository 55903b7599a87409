"""Names of codecs and levels, as users write them."""

from __future__ import annotations

import pytest

from servicex_server.errors import InvalidRequest
from servicex_server.model.compression import CODECS, Compression, default_compression, parse_compression
from servicex_server.model.kinds import ResultFormat


@pytest.mark.parametrize("kind", ResultFormat)
def test_every_codec_and_level_that_is_offered_is_understood(kind: ResultFormat) -> None:
    assert parse_compression(str(default_compression(kind)), kind) == default_compression(kind)
    for codec, levels in CODECS[kind].items():
        assert parse_compression(codec, kind) == Compression(codec)
        for level in levels or ():
            compression = parse_compression(f"{codec}:{level}", kind)
            assert compression == Compression(codec, level)
            assert str(compression) == f"{codec}:{level}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "zip",
            "zstd:",
            "zstd:0",
            "zstd:99",
            "zstd:-1",
            "zstd:1:2",
            "ZSTD",
            " zstd",
            "zstd\n",
            "zstd:³",
        ),
        # no levels, and a level without end
        *("none:1", "lz4:1", "zstd:" + "9" * 5000),
    ],
)
def test_anything_else_is_refused_with_what_is_offered(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_compression(text, ResultFormat.ARROW)
    assert "for arrow; allowed: zstd (zstd:1 to zstd:12), lz4, none" in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("text", ["zstd+split", "zstd:3+split", "gzip:1+split", "lz4+split", "snappy+split"])
def test_floats_may_be_split_in_parquet_alone(text: str) -> None:
    compression = parse_compression(text, ResultFormat.PARQUET)
    assert compression.is_split
    assert str(compression) == text
    with pytest.raises(InvalidRequest, match="not offered for arrow"):
        parse_compression(text, ResultFormat.ARROW)


@pytest.mark.parametrize("text", ["none+split", "zstd+split:3", "zstd:3+", "zstd:3+split+split", "+split"])
def test_what_cannot_be_split_is_refused_with_what_can(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"snappy, .*\+split after all but none splits floats"):
        parse_compression(text, ResultFormat.PARQUET)
