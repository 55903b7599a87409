"""The setting `compression`, from the environment and from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicex_server.app.settings import load, to_compressions
from servicex_server.errors import ConfigurationError
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat


def test_formats_have_their_codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {ResultFormat.PARQUET: Compression("zstd", 3), ResultFormat.HDF5: Compression("none")}
    assert load().compression == {}
    config = tmp_path / "server.yaml"
    config.write_text("compression:\n  parquet: zstd:3\n  hdf5: none\n")
    assert to_compressions(load(config).compression) == expected
    monkeypatch.setenv("SERVICEX_COMPRESSION", "parquet=zstd:3, hdf5=none")
    assert to_compressions(load().compression) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("csv=zstd", "formats are parquet, root-file, root-rntuple, arrow, hdf5"),
        ("parquet=zip", "'zip' is not offered for parquet; allowed: zstd"),
        ("parquet", "'' is not offered for parquet"),
    ],
)
def test_what_is_wrong_is_told(text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICEX_COMPRESSION", text)
    with pytest.raises(ConfigurationError, match=why):
        load()
