"""Which data sets can be found is a matter of settings, and of what is missing the setting is named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from servicex_server.app.finders import BUILT_IN, build_finder, explain_absent
from servicex_server.app.grid_checks import examine_grid
from servicex_server.app.settings import load
from servicex_server.errors import ConfigurationError, FinderError
from servicex_server.grid.access import GridAccess
from servicex_server.model.did import parse_did
from servicex_server.source.policy import SourcePolicy


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, {"rucio": "the setting `rucio_host`", "static": "the setting `static_files`"}),
        ({"broker_finders": ("rucio", "other")}, {"static": "the setting `static_files`"}),
        ({"finders": ("static",)}, {"rucio": "to be named in the setting `finders`"}),
    ],
)
def test_what_a_missing_finder_needs(
    choices: dict[str, Any], expected: dict[str, str], tmp_path: Path
) -> None:
    settings = load(data_dir=tmp_path, **choices)
    absent = explain_absent(settings, {"servicex", *BUILT_IN} - {"rucio", "static"})
    assert {scheme: absent[scheme] for scheme in expected} == expected
    assert set(absent) <= {"rucio", "static"}


@pytest.mark.parametrize(
    ("scheme", "name"), [("local", "local_roots"), ("rucio", "rucio_host"), ("static", "static_files")]
)
def test_a_finder_that_cannot_be_started_names_its_setting(scheme: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"needs the setting `{name}`"):
        build_finder(load(data_dir=tmp_path), SourcePolicy(), scheme)


def test_rucio_without_a_proxy_is_told_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = load(data_dir=tmp_path, rucio_host="http://127.0.0.1:1")
    policy = SourcePolicy(grid=GridAccess(proxy_file=tmp_path / "grid" / "x509up"))
    finder = build_finder(settings, policy, "rucio")
    assert f"there is no proxy in {tmp_path}/grid/x509up" in caplog.text
    (finding,) = examine_grid(settings)
    assert finding.grade == "warning"
    assert "Rucio lets nobody in without it" in finding.detail

    async def ask() -> None:
        async for _ in finder.find(parse_did("rucio://mc:x")):
            pass

    with pytest.raises(FinderError, match="this server has no proxy now"):
        asyncio.run(ask())


@pytest.mark.parametrize("choices", [{"rucio_auth_type": "oidc"}, {"x509_proxy_file": __file__}])
def test_rucio_that_has_what_it_needs_is_no_warning(
    choices: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(data_dir=tmp_path, rucio_host="http://127.0.0.1:1", **choices)
    build_finder(settings, SourcePolicy(grid=GridAccess(proxy_file=settings.x509_proxy_file)), "rucio")
    assert "rucio.proxy" not in caplog.text
