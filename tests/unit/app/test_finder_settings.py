"""Which data sets can be found is a matter of settings, and of what is missing the setting is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from servicex_server.app.finders import BUILT_IN, build_finder, explain_absent
from servicex_server.app.settings import load
from servicex_server.errors import ConfigurationError
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
